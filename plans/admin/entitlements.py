"""Who has what, and why."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from plans.entitlements import refresh_entitlements
from plans.models import CurrentEntitlement
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import staff_cause


@admin.register(CurrentEntitlement)
class CurrentEntitlementAdmin(ReadOnlyAdmin):
    list_display = ["user", "plan", "source", "limit_percent", "grace_ends_at", "changes_at"]
    list_filter = ["plan", "source", ("grace_ends_at", admin.EmptyFieldListFilter)]
    search_fields = ["user__email", "user__firebase_uid"]
    list_select_related = ["user", "plan"]
    actions = ["decide_again"]
    exclude = ["reasons"]
    readonly_fields = ["why"]

    @admin.display(description="Why")
    def why(self, entitlement: CurrentEntitlement) -> SafeString:
        """What was considered, in order; the one that counts is marked."""
        lines = format_html_join(
            "",
            "<li>{} <b>{}</b> ({}{}): {}{}</li>",
            (
                (
                    "✔" if reason["won"] else "·" if reason["counts"] else "✘",
                    reason["plan"] or "no plan",
                    reason["source"],
                    f" {reason['source_id']}" if reason["source_id"] else "",
                    reason["text"],
                    f" Until {reason['until'][:16]}." if reason["until"] else "",
                )
                for reason in entitlement.reasons
            ),
        )
        return format_html("<ul>{}</ul>", lines)

    @admin.action(description="Decide again", permissions=["act"])
    def decide_again(self, request: HttpRequest, queryset: QuerySet[CurrentEntitlement]) -> None:
        ids = list(queryset.values_list("user_id", flat=True))
        changed = refresh_entitlements(ids, cause=staff_cause(request))
        messages.success(request, f"{len(ids)} decided again, {len(changed)} changed.")

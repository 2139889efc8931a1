"""What is only ever looked at, or ended: the audit trail and API tokens."""

import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import ApiToken, AuditEntry
from accounts.tokens import revoke_token
from tesslate.lib.adminlists import DaysFilter, RecentValuesFilter
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import asks, staff_cause


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ["at", "action", "who", "user", "organization", "target_id", "reason"]
    list_filter = [
        ("at", DaysFilter),
        ("cause_kind", RecentValuesFilter),
        ("action", RecentValuesFilter),
    ]
    list_select_related = ["user", "actor", "organization"]
    search_fields = [
        "user__email",
        "actor__email",
        "organization__name",
        "action",
        "target_id",
        "cause_reference",
        "reason",
    ]
    search_help_text = "E-mail, organization, action, id of what was changed, event id, reason"
    fields = [
        "at",
        "action",
        "who",
        "user",
        "organization",
        "target_type",
        "target_id",
        "reason",
        "was",
        "became",
    ]
    readonly_fields = fields

    @admin.display(description="by")
    def who(self, entry: AuditEntry) -> str:
        return str(entry.actor or entry.cause)

    @admin.display(description="before")
    def was(self, entry: AuditEntry) -> SafeString | str:
        return _pretty(entry.before)

    @admin.display(description="after")
    def became(self, entry: AuditEntry) -> SafeString | str:
        return _pretty(entry.after)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = [
        "name",
        "prefix",
        "user",
        "scopes",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    ]
    list_filter = [
        ("revoked_at", admin.EmptyFieldListFilter),
        ("created_at", DaysFilter),
        ("last_used_at", DaysFilter),
    ]
    list_select_related = ["user"]
    search_fields = ["prefix", "name", "user__email"]
    # Not the hash: it is of no use to anybody, and looks as if it were.
    fields = list_display
    readonly_fields = list_display
    actions = ["revoke"]

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.change_apitoken"))

    @admin.action(description="Revoke at once", permissions=["revoke"])
    @asks("Programs that use these tokens are refused from now on, and for good.")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        cause = staff_cause(request)
        tokens = list(queryset.values_list("pk", flat=True))
        count = sum(revoke_token(token_id=token_id, cause=cause) for token_id in tokens)
        self.message_user(request, f"Revoked: {count} of {len(tokens)}.", messages.SUCCESS)


def _pretty(value: Any) -> SafeString | str:
    if value is None:
        return "–"
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre class="whitespace-pre-wrap break-all text-xs">{}</pre>', text)

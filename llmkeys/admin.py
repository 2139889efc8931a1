"""Keys as staff see them: what should be, what is, how far apart, and why. Nothing is edited by
hand; actions call services, which leave an audit entry. No key's value is shown anywhere."""

import json
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from llmkeys import (
    audit_admin,  # noqa: F401 - registers its pages
    marking,
    rollout_admin,  # noqa: F401 - registers its pages
    rotation,
    services,
    switch_admin,  # noqa: F401 - registers its pages
    usage_admin,  # noqa: F401 - registers its pages
)
from llmkeys.models import (
    GatewayState,
    KeyEvent,
    PlanAtGateway,
    VirtualKey,
)
from llmkeys.selectors import shown_state
from llmkeys.spec import fingerprint
from tesslate.lib.adminlists import DaysFilter, RecentValuesFilter
from tesslate.lib.cause import Cause
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import asks, do_to_each, given_reason, staff_cause

STATE_COLOURS = {
    "ready": "success",
    "pending": "info",
    "updating": "info",
    "retiring": "warning",
    "stuck": "danger",
    "blocked": "danger",
}
TABLE = '<div class="room-scroll" tabindex="0"><table class="room-table">{}</table></div>'
HEADINGS = SafeString("<tr><th></th><th>field</th><th>desired</th><th>observed</th></tr>")
STAGE_HEADINGS = SafeString("<tr><th>stage</th><th>looked at</th><th>differ</th></tr>")


class InStepFilter(admin.SimpleListFilter):
    title = "in step"
    parameter_name = "in_step"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "In step"), ("no", "Behind"), ("stuck", "Stuck"), ("alarm", "Not obeyed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "yes":
                return queryset.filter(observed_generation=F("generation"))
            case "no":
                return queryset.filter(generation__gt=F("observed_generation"))
            case "stuck":
                return queryset.filter(parked_at__isnull=False)
            case "alarm":
                return queryset.filter(enforcement_alarm_at__isnull=False)
        return queryset


@admin.register(VirtualKey)
class VirtualKeyAdmin(ReadOnlyAdmin):
    list_display = [
        "user",
        "label",
        "masked",
        "state",
        "lag",
        "spend",
        "synced_at",
        "last_error",
    ]
    list_filter = [
        InStepFilter,
        "lifecycle",
        ("blocked_at", admin.EmptyFieldListFilter),
        ("created_at", DaysFilter),
    ]
    search_fields = ["user__email", "alias", "key_hash", "last_four"]
    list_select_related = ["user"]
    ordering = ["-id"]
    show_full_result_count = False
    actions = ["rotate", "revoke", "undo_rotation", "block", "unblock", "resync", "reset_spend"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "user",
                    "label",
                    "masked",
                    "alias",
                    "key_hash",
                    "state",
                    "lifecycle",
                    "replaces",
                    "retire_at",
                    "blocked_at",
                    "blocked_reason",
                    "created_at",
                    "last_used_at",
                ]
            },
        ),
        ("Desired and observed", {"fields": ["hashes", "comparison"]}),
        (
            "Reconciliation",
            {
                "fields": [
                    "generation",
                    "observed_generation",
                    "lag",
                    "synced_at",
                    "attempts",
                    "next_attempt_at",
                    "last_error",
                    "parked_at",
                    "caused_by",
                ]
            },
        ),
        (
            "Budget",
            {"fields": ["window", "spend", "spend_seen_at", "budget_cap", "carried_spend"]},
        ),
        (
            "Enforcement",
            {"fields": ["probe_for", "probe_since", "enforced_at", "enforcement_alarm_at"]},
        ),
        ("Trail", {"fields": ["trail"]}),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for _, options in self.fieldsets for name in options["fields"]]

    @admin.display(description="key")
    def masked(self, key: VirtualKey) -> str:
        return f"sk-…{key.last_four}"

    @display(  # type: ignore[untyped-decorator]
        description="state", ordering="observed_generation", label=STATE_COLOURS
    )
    def state(self, key: VirtualKey) -> str:
        return shown_state(key)

    @admin.display(description="behind since", ordering="dirty_since")
    def lag(self, key: VirtualKey) -> Any:
        return None if key.is_in_step else key.dirty_since

    @admin.display(description="caused by")
    def caused_by(self, key: VirtualKey) -> str:
        return str(key.cause)

    @admin.display(description="hashes")
    def hashes(self, key: VirtualKey) -> str:
        """Short enough for a ticket; equal while the key is as it should be."""
        sides = (key.desired, key.observed)
        return " · ".join("none" if side is None else fingerprint(side)[:12] for side in sides)

    @admin.display(description="")
    def comparison(self, key: VirtualKey) -> SafeString:
        return compare(key.desired, key.observed)

    @admin.display(description="")
    def trail(self, key: VirtualKey) -> SafeString:
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}:{}</td><td>{}</td></tr>",
            (
                (
                    event.at.strftime("%Y-%m-%d %H:%M:%S"),
                    event.action,
                    event.get_outcome_display(),
                    event.cause_kind,
                    event.cause_reference,
                    event.message or json.dumps(event.sent or {}, default=str)[:300],
                )
                for event in key.events.all()[:30]
            ),
        )
        return format_html(TABLE, rows)

    # Actions

    @admin.action(description="Rotate, old key valid for the overlap", permissions=["act"])
    @asks("New keys are made and used at once. The old ones go on working for the overlap.")
    def rotate(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> None:
        self._each(request, queryset, lambda key, by: rotation.rotate_key(key=key, cause=by))

    @admin.action(description="Revoke at once and replace (leak)", permissions=["act"])
    @asks(
        "The gateway forgets these keys at once and for good. New ones take their place; there is "
        "no overlap.",
        reason=True,
        password=True,
    )
    def revoke(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> None:
        reason = given_reason(request)
        self._each(
            request,
            queryset,
            lambda key, by: rotation.revoke_key(key=key, cause=by, reason=reason),
        )

    @admin.action(description="Undo the rotation that made this key", permissions=["act"])
    @asks("The key from before the rotation is used again, and the new one goes.")
    def undo_rotation(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> None:
        self._each(request, queryset, lambda key, by: rotation.undo_rotation(key=key, cause=by))

    @admin.action(description="Block", permissions=["act"])
    @asks("The gateway refuses these keys until they are unblocked: chats fail.", reason=True)
    def block(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> None:
        reason = given_reason(request)
        self._each(
            request,
            queryset,
            lambda key, by: services.block_key(key=key, reason=reason, cause=by),
        )

    @admin.action(description="Unblock", permissions=["act"])
    def unblock(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> None:
        self._each(request, queryset, lambda key, by: services.unblock_key(key=key, cause=by))

    @admin.action(description="Sync again, reading the gateway first", permissions=["act"])
    def resync(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> None:
        self._each(
            request, queryset, lambda key, by: services.heal_key(user_id=key.user_id, cause=by)
        )

    @admin.action(description="Reset spend of the present window", permissions=["act"])
    @asks("What was spent in this period counts as nothing at the gateway.", reason=True)
    def reset_spend(self, request: HttpRequest, queryset: QuerySet[VirtualKey]) -> None:
        reason = given_reason(request)
        self._each(
            request,
            queryset,
            lambda key, by: services.reset_spend(user=key.user, reason=reason, cause=by),
        )

    def _each(
        self,
        request: HttpRequest,
        keys: QuerySet[VirtualKey],
        do: Callable[[VirtualKey, Cause], object],
    ) -> None:
        cause = staff_cause(request)
        do_to_each(
            request,
            keys.select_related("user"),
            lambda key: do(key, cause),
            and_then="; the gateway follows in a moment",
        )


@admin.register(PlanAtGateway)
class PlanAtGatewayAdmin(ReadOnlyAdmin):
    list_display = ["plan", "gateway_id", "in_step", "synced_at", "enforced_at", "last_error"]
    list_filter = [InStepFilter]
    search_fields = ["plan__name", "plan__code", "gateway_id"]
    list_select_related = ["plan"]
    actions = ["resync"]
    fields = readonly_fields = [
        "plan",
        "gateway_id",
        "in_step",
        "comparison",
        "generation",
        "observed_generation",
        "synced_at",
        "attempts",
        "last_error",
        "probe_for",
        "enforced_at",
        "enforcement_alarm_at",
    ]

    @admin.display(boolean=True, description="in step")
    def in_step(self, shared: PlanAtGateway) -> bool:
        return shared.is_in_step

    @admin.display(description="Desired and observed")
    def comparison(self, shared: PlanAtGateway) -> SafeString:
        return compare(shared.desired, shared.observed)

    @admin.action(description="Sync again", permissions=["act"])
    def resync(self, request: HttpRequest, queryset: QuerySet[PlanAtGateway]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        marking.mark_plans(ids, cause=staff_cause(request))
        self.message_user(request, "The gateway follows in a moment.")


@admin.register(KeyEvent)
class KeyEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "action", "outcome", "key", "plan", "cause_kind", "message"]
    list_filter = [
        ("at", DaysFilter),
        ("action", RecentValuesFilter),
        "outcome",
        ("cause_kind", RecentValuesFilter),
    ]
    search_fields = ["key__user__email", "key__alias", "cause_reference"]
    list_select_related = ["key__user", "plan"]


@admin.register(GatewayState)
class GatewayStateAdmin(ReadOnlyAdmin):
    list_display = [
        "url",
        "reason",
        "opened_at",
        "in_use_since",
        "differing",
        "compared_at",
        "converged_at",
    ]
    fieldsets = [
        (None, {"fields": ["url", "in_use_since"]}),
        ("Breaker", {"fields": ["opened_at", "reason", "detail", "retry_at", "openings"]}),
        (
            "Billing against the gateway",
            {"fields": ["converged_at", "compared_at", "stages", "examples"]},
        ),
    ]

    @admin.display(description="differences")
    def differing(self, state: GatewayState) -> int | None:
        """None while nothing was compared yet."""
        if state.compared_at is None:
            return None
        return sum(int(differ) for _, _, differ in state.comparison)

    @admin.display(description="by stage")
    def stages(self, state: GatewayState) -> SafeString:
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            state.comparison,
        )
        return format_html(TABLE, format_html("{}{}", STAGE_HEADINGS, rows))

    @admin.display(description="differences")
    def examples(self, state: GatewayState) -> SafeString:
        rows = format_html_join("", "<tr><td>{}</td></tr>", ((line,) for line in state.differences))
        return format_html(TABLE, rows)


def compare(desired: dict[str, Any] | None, observed: dict[str, Any] | None) -> SafeString:
    """Desired and observed side by side, a mark on each line that differs."""
    names = sorted({*(desired or {}), *(observed or {})})
    rows = format_html_join(
        "",
        "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>",
        (
            (
                "" if (desired or {}).get(name) == (observed or {}).get(name) else "≠",
                name,
                json.dumps((desired or {}).get(name), sort_keys=True),
                json.dumps((observed or {}).get(name), sort_keys=True),
            )
            for name in names
        ),
    )
    return format_html(TABLE, format_html("{}{}", HEADINGS, rows))

"""Stripe's events: what came, what was made of it, and the way to try again."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.views import ChangeList

from plans.admin.base import pretty, without_personal_data
from plans.customers import find_customer, find_customers
from plans.inbox import replay
from plans.models import BillingReconciliation, Customer, EventBackfill, StripeEvent
from plans.tasks import process_events, reconcile_now
from plans.wakeups import wake
from tesslate.lib.adminlists import DaysFilter, RecentValuesFilter
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import asks, staff_cause

STATE_COLOURS = {
    StripeEvent.State.PENDING: "info",
    StripeEvent.State.PROCESSED: "success",
    StripeEvent.State.DEAD: "danger",
    StripeEvent.State.QUARANTINED: "warning",
}


class EventList(ChangeList):  # type: ignore[misc]
    """Finds the customers of a page's events in one go."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = find_customers({event.stripe_customer_id for event in self.result_list})
        for event in self.result_list:
            event.shown_customers = found


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = [
        "type",
        "object_id",
        "customer_link",
        "shown_state",
        "outcome",
        "attempts",
        "failures",
        "deliveries",
        "received_at",
        "processed_at",
    ]
    list_filter = [
        ("received_at", DaysFilter),
        "state",
        ("type", RecentValuesFilter),
        ("outcome", RecentValuesFilter),
        ("api_version", RecentValuesFilter),
    ]
    search_fields = ["event_id", "object_id", "stripe_customer_id"]
    actions = ["replay_selected"]
    exclude = ["payload"]
    readonly_fields = ["customer_link", "as_received"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EventList

    @display(label=STATE_COLOURS, ordering="state", description="State")  # type: ignore[untyped-decorator]
    def shown_state(self, event: StripeEvent) -> tuple[str, str]:
        return event.state, event.get_state_display()

    @admin.display(description="Customer")
    def customer_link(self, event: StripeEvent) -> SafeString | str:
        known: dict[str, Customer] | None = event.shown_customers
        if known is None:
            customer = find_customer(event.stripe_customer_id)
        else:
            customer = known.get(event.stripe_customer_id)
        if customer is None:
            return event.stripe_customer_id or "-"
        address = reverse("admin:plans_customer_change", args=[customer.pk])
        return format_html('<a href="{}">{}</a>', address, customer)

    @admin.display(description="As received")
    def as_received(self, event: StripeEvent) -> SafeString | str:
        if event.payload is None:
            return "Pruned; only the row is kept."
        return pretty(event.shown_payload)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        event = super().get_object(request, object_id, from_field)
        if event is not None:
            permitted = request.user.has_perm("plans.view_personal_data")
            event.shown_payload = (
                event.payload if permitted else without_personal_data(event.payload)
            )
        return event

    @admin.action(description="Replay", permissions=["act"])
    @asks("Each event only makes us read Stripe's present state again, so repeating them is safe.")
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[StripeEvent]) -> None:
        self._replay(request, queryset)

    def _replay(self, request: HttpRequest, events: QuerySet[StripeEvent]) -> None:
        count = replay(events=events, cause=staff_cause(request))
        wake(process_events)
        messages.success(request, f"{count} will be processed again.")


@admin.register(EventBackfill)
class EventBackfillAdmin(ReadOnlyAdmin):
    list_display = ["covered_from", "covered_to", "listed", "added", "finished_at"]


@admin.register(BillingReconciliation)
class BillingReconciliationAdmin(ReadOnlyAdmin):
    """What each comparison with Stripe found. The nightly one, commands, and this page's button."""

    list_display = [
        "started_at",
        "finished_at",
        "cause",
        "seen",
        "agreed",
        "repaired",
        "orphans",
        "failed",
        "entitlements_changed",
    ]
    list_filter = [("started_at", DaysFilter)]
    actions_list = ["start_one"]
    exclude = ["lines"]
    readonly_fields = ["differences"]

    @admin.display(description="Differences")
    def differences(self, run: BillingReconciliation) -> SafeString | str:
        return pretty(run.lines) if run.lines else "None"

    @action(  # type: ignore[untyped-decorator]
        description="Compare with Stripe now", permissions=["act"], url_path="start"
    )
    def start_one(self, request: HttpRequest) -> HttpResponse:
        """A link leads here, so it asks first: a GET must change nothing."""
        assert request.user.pk is not None
        if request.method != "POST":
            context = {**admin.site.each_context(request), "title": "Compare with Stripe"}
            return render(request, "staffroom/start_comparison.html", context)
        reconcile_now.delay(request.user.pk)
        messages.success(request, "A worker compares now; the result appears here.")
        return redirect(reverse("admin:plans_billingreconciliation_changelist"))

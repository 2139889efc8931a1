"""Stripe's events: what came, what was made of it, and the way to try again."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action

from plans.admin.base import ReadOnlyAdmin, pretty, staff_cause, without_personal_data
from plans.customers import find_customer
from plans.inbox import replay
from plans.models import EventBackfill, StripeEvent
from plans.tasks import process_events
from plans.wakeups import wake

FAILED = (StripeEvent.State.DEAD, StripeEvent.State.QUARANTINED)


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = [
        "type",
        "object_id",
        "customer_link",
        "state",
        "outcome",
        "attempts",
        "failures",
        "deliveries",
        "received_at",
        "processed_at",
    ]
    list_filter = ["state", "outcome", "type", "api_version"]
    search_fields = ["event_id", "object_id", "stripe_customer_id"]
    date_hierarchy = "received_at"
    actions = ["replay_selected"]
    actions_list = ["replay_failed"]
    exclude = ["payload"]
    readonly_fields = ["customer_link", "as_received"]

    @admin.display(description="Customer")
    def customer_link(self, event: StripeEvent) -> SafeString | str:
        customer = find_customer(event.stripe_customer_id)
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
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[StripeEvent]) -> None:
        self._replay(request, queryset)

    @action(  # type: ignore[untyped-decorator]
        description="Replay all failed", permissions=["act"], url_path="replay-failed"
    )
    def replay_failed(self, request: HttpRequest) -> HttpResponse:
        self._replay(request, StripeEvent.objects.filter(state__in=FAILED))
        return redirect(reverse("admin:plans_stripeevent_changelist"))

    def _replay(self, request: HttpRequest, events: QuerySet[StripeEvent]) -> None:
        count = replay(events=events, cause=staff_cause(request))
        wake(process_events)
        messages.success(request, f"{count} will be processed again.")


@admin.register(EventBackfill)
class EventBackfillAdmin(ReadOnlyAdmin):
    list_display = ["covered_from", "covered_to", "listed", "added", "finished_at"]

"""Paid usage beyond plans: who uses it, and what Stripe was told of it."""

from decimal import Decimal

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from plans.admin.billing import ReadOnlyInline
from plans.errors import StripeError
from plans.models import EarlierOverageTerms, OverageReport, OverageWindow
from plans.overage import units_due
from plans.overage_reports import compare
from tesslate.lib.readonlyadmin import ReadOnlyAdmin


class EarlierTermsInline(ReadOnlyInline):
    """What another plan's terms were, and what was used on it, before the present one."""

    model = EarlierOverageTerms
    fields = [
        "plan_code",
        "ended_at",
        "included_cents",
        "used",
        "allowance_cents",
        "markup_percent",
    ]
    show_change_link = False


@admin.register(OverageWindow)
class OverageWindowAdmin(ReadOnlyAdmin):
    list_display = [
        "user",
        "customer",
        "plan_code",
        "period_start",
        "period_end",
        "included",
        "used_in_period",
        "allowance",
        "charged",
        "units_reported",
    ]
    list_filter = ["plan_code"]
    list_select_related = ["user", "customer__user", "customer__organization"]
    search_fields = ["=user__email", "=customer__stripe_customer_id"]
    actions = ["compare_with_stripe"]
    inlines = [EarlierTermsInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OverageWindow]:
        windows: QuerySet[OverageWindow] = super().get_queryset(request)
        return windows.prefetch_related("earlier")

    @admin.display(description="Used", ordering="used")
    def used_in_period(self, window: OverageWindow) -> Decimal:
        return window.used_in_period

    @admin.display(description="Included")
    def included(self, window: OverageWindow) -> str:
        return f"${window.included_cents / 100:,.2f}"

    @admin.display(description="Allowance on top")
    def allowance(self, window: OverageWindow) -> str:
        return f"${window.allowance_cents / 100:,.2f}"

    @admin.display(description="To be billed, US cents")
    def charged(self, window: OverageWindow) -> int:
        return units_due(window)

    @admin.action(description="Compare with Stripe's meter", permissions=["act"])
    def compare_with_stripe(self, request: HttpRequest, queryset: QuerySet[OverageWindow]) -> None:
        for window in queryset.select_related("customer"):
            try:
                found = compare(window)
            except StripeError as error:
                self.message_user(request, f"{window}: {error}", messages.WARNING)
                continue
            level = messages.WARNING if found.difference else messages.SUCCESS
            text = f"{window}: {found.at_stripe} US cents at Stripe, {found.sent} sent by us"
            self.message_user(request, text, level)


@admin.register(OverageReport)
class OverageReportAdmin(ReadOnlyAdmin):
    list_display = [
        "identifier",
        "window",
        "units",
        "state",
        "occurred_at",
        "attempts",
        "sent_at",
        "last_error",
    ]
    list_filter = ["state"]
    list_select_related = ["window__user"]
    search_fields = ["=identifier", "=window__user__email"]
    actions = ["send_again"]

    @admin.action(description="Send again what Stripe refused", permissions=["act"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[OverageReport]) -> None:
        """Under the same identifier: what Stripe has is not billed twice."""
        states = [OverageReport.State.REFUSED, OverageReport.State.PENDING]
        count = queryset.filter(state__in=states).update(
            state=OverageReport.State.PENDING, next_attempt_at=timezone.now()
        )
        self.message_user(request, f"{count} are sent in a moment.")

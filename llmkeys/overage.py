"""What users who may go beyond their plan have used, told to plans.overage as it grows."""

from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Sum
from django.utils import timezone

from accounts.models import Membership
from llmkeys.models import UsageEntry
from plans.models import CurrentEntitlement, Customer, OverageWindow
from plans.overage import open_window, record_use

# Calls may appear in the gateway's log this long after a period ended.
LATE = timedelta(days=3)


def measure(*, at: datetime | None = None) -> int:
    """Bring every window that runs, or ended lately, up to date; how many were looked at."""
    now = at or timezone.now()
    allowed = CurrentEntitlement.objects.filter(overage_cents__gt=0).select_related("plan")
    for entitlement in allowed.iterator():
        customer = _payer(entitlement)
        if customer is not None:
            open_window(entitlement, customer)
    windows = list(OverageWindow.objects.filter(period_end__gt=now - LATE))
    for window in windows:
        record_use(window.pk, used_in(window), at=now)
    return len(windows)


def used_in(window: OverageWindow) -> Decimal:
    """US dollars of calls on the plan that began in the window, less what staff credited in it."""
    found = UsageEntry.objects.filter(
        user_id=window.user_id,
        plan_code=window.plan_code,
        started_at__gte=window.period_start,
        started_at__lt=window.period_end,
    ).aggregate(cost=Sum("cost"), credited=Sum("credited"))
    return max(Decimal(0), (found["cost"] or Decimal(0)) - (found["credited"] or Decimal(0)))


def _payer(entitlement: CurrentEntitlement) -> Customer | None:
    if entitlement.source == CurrentEntitlement.Source.SUBSCRIPTION:
        return Customer.objects.filter(user_id=entitlement.user_id).first()
    seat = Membership.objects.filter(pk=entitlement.source_id or 0).first()
    if seat is None:
        return None
    return Customer.objects.filter(organization_id=seat.organization_id).first()

"""What users who may go beyond their plan have used, told to plans.overage as it grows."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import DecimalField, Exists, F, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from accounts.models import Membership
from llmkeys.models import UsageEntry
from plans.models import (
    CurrentEntitlement,
    Customer,
    EarlierOverageTerms,
    OverageWindow,
    Plan,
    PlanGrant,
)
from plans.overage import note_earlier_plans, open_window, record_use

# Calls may appear in the gateway's log this long after a period ended.
LATE = timedelta(days=3)
NOTHING = Value(Decimal(0), output_field=DecimalField(max_digits=18, decimal_places=10))
# What was used on their present plans, before it is kept from going below nothing, of many windows.
# One whose plan came back within the period differs, and is looked at each time.
USE = (
    UsageEntry.objects.filter(
        user_id=OuterRef("user_id"),
        plan_code=OuterRef("plan_code"),
        started_at__gte=OuterRef("period_start"),
        started_at__lt=OuterRef("period_end"),
    )
    .order_by()
    .values("user_id")
    .annotate(sum=Sum("cost") - Sum("credited"))
    .values("sum")
)


def measure(*, at: datetime | None = None) -> int:
    """Bring the windows up to date whose use may have changed; how many were looked at."""
    now = at or timezone.now()
    looked_at = 0
    while _measure_next(now):
        looked_at += 1
    # What is told of them now comes too late to be billed.
    over = OverageWindow.objects.filter(due_at__isnull=False, period_end__lte=now - LATE)
    over.update(due_at=None)
    return looked_at


def measure_all(*, at: datetime | None = None) -> int:
    """Look at every allowance, and at every window that runs or ended lately: the net under
    ``measure``. How many windows were not up to date."""
    now = at or timezone.now()
    opened = OverageWindow.objects.filter(
        user_id=OuterRef("user_id"),
        period_start=OuterRef("period_start"),
        plan_code=OuterRef("plan__code"),
        allowance_cents=OuterRef("overage_cents"),
    )
    allowed = CurrentEntitlement.objects.filter(~Exists(opened), overage_cents__gt=0)
    for entitlement in allowed.select_related("plan").iterator():
        _open(entitlement)
    recent = OverageWindow.objects.filter(period_end__gt=now - LATE, due_at=None)
    behind = recent.annotate(found=Greatest(Coalesce(Subquery(USE), NOTHING), NOTHING)).exclude(
        used=F("found")
    )
    OverageWindow.objects.filter(pk__in=list(behind.values_list("pk", flat=True))).update(
        due_at=now
    )
    return measure(at=now)


def note_use(user_ids: Collection[int], first: datetime, last: datetime) -> None:
    """Usage of theirs was written, in this transaction, that began between these two moments."""
    OverageWindow.objects.filter(
        user_id__in=user_ids, period_start__lte=last, period_end__gt=first
    ).update(due_at=timezone.now())


# Fixed: every change of what somebody has passes through it, and hardly ever finds anybody.
_ALLOWED = """
    SELECT * FROM plans_currententitlement WHERE user_id = ANY(%s) AND overage_cents > 0
"""


def follow_entitlements(user_ids: Collection[int]) -> None:
    """Their allowances or periods changed, in this transaction."""
    for entitlement in CurrentEntitlement.objects.raw(_ALLOWED, [list(user_ids)]):
        _open(entitlement)


@transaction.atomic(savepoint=False)
def _open(entitlement: CurrentEntitlement) -> None:
    customer = _payer(entitlement)
    if customer is None:
        return
    window, is_new = open_window(entitlement, customer)
    if is_new:
        codes = _plans_held_before(window)
        note_earlier_plans(window, codes, at=entitlement.decided_at)


def _plans_held_before(window: OverageWindow) -> set[str]:
    """Other plans that the payer's calls in the period were made on. The default plan and granted
    ones have budgets of their own."""
    calls = UsageEntry.objects.filter(
        user_id=window.user_id,
        organization=window.customer.organization,
        started_at__gte=window.period_start,
        started_at__lt=window.period_end,
    ).exclude(plan_code=window.plan_code)
    codes = set(calls.order_by().values_list("plan_code", flat=True).distinct())
    if not codes:
        return codes
    granted = PlanGrant.objects.filter(
        Q(user_id=window.user_id) | Q(organization__memberships__user_id=window.user_id),
        starts_at__lt=window.period_end,
        ends_at__gt=window.period_start,
    )
    paid = Plan.objects.filter(code__in=codes, is_default=False).exclude(grants__in=granted)
    return set(paid.values_list("code", flat=True))


@transaction.atomic
def _measure_next(now: datetime) -> bool:
    """Locked before usage is read, and whoever writes usage marks the window in the same
    transaction: what the reading missed makes it due again."""
    window = (
        OverageWindow.objects.select_for_update(skip_locked=True)
        .filter(due_at__isnull=False, period_end__gt=now - LATE)
        .order_by("due_at")
        .first()
    )
    if window is None:
        return False
    for terms, start, end in _turns(window):
        terms.used = _used(window.user_id, terms.plan_code, start, end)
        if terms is not window:
            terms.save(update_fields=["used"])
    record_use(window.pk, window.used, at=now)
    OverageWindow.objects.filter(pk=window.pk).update(due_at=None)
    return True


def _turns(
    window: OverageWindow,
) -> Iterator[tuple[EarlierOverageTerms | OverageWindow, datetime, datetime]]:
    """The plans of the period in turn, the present one last, and between which moments calls on
    that plan belong there: anywhere in the period, as a call tells its plan however late it is
    logged, unless the plan came back."""
    turns: list[EarlierOverageTerms | OverageWindow] = [*window.earlier.all(), window]
    begin: dict[str, datetime] = {}
    for index, terms in enumerate(turns):
        code, start = terms.plan_code, begin.get(terms.plan_code, window.period_start)
        comes_back = any(later.plan_code == code for later in turns[index + 1 :])
        begin[code] = window.period_end
        if comes_back and isinstance(terms, EarlierOverageTerms):
            begin[code] = terms.ended_at
        yield terms, start, begin[code]


def _used(user_id: int, plan_code: str, start: datetime, end: datetime) -> Decimal:
    """US dollars of calls on the plan that began in this time, less what staff credited in it."""
    found = UsageEntry.objects.filter(
        user_id=user_id, plan_code=plan_code, started_at__gte=start, started_at__lt=end
    ).aggregate(cost=Sum("cost"), credited=Sum("credited"))
    return max(Decimal(0), (found["cost"] or Decimal(0)) - (found["credited"] or Decimal(0)))


def _payer(entitlement: CurrentEntitlement) -> Customer | None:
    if entitlement.source == CurrentEntitlement.Source.SUBSCRIPTION:
        return Customer.objects.filter(user_id=entitlement.user_id).first()
    seat = Membership.objects.filter(pk=entitlement.source_id or 0).first()
    if seat is None:
        return None
    return Customer.objects.filter(organization_id=seat.organization_id).first()

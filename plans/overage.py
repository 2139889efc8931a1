"""Usage beyond what a plan includes, for customers who allow themselves to be billed for it.

A plan may allow overage; a customer switches it on by setting a cap, in US cents that they are
willing to pay a period on top. The cap becomes an allowance at the gateway (less the plan's
markup), which the keys' budgets include: that is what holds usage below it. An organization's cap
is divided among its seats. While a payment is overdue there is no overage.

What was used beyond is charged in whole US cents, rounded down, and never above the cap.
"""

from collections.abc import Collection
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

from django.db import transaction
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import User
from plans import overage_catalogue
from plans.allowances import bills, can_be_billed, metered_price
from plans.checkout import payer_for, told_to_callers
from plans.customers import existing_customer
from plans.entitlements import refresh_entitlements, users_of
from plans.errors import OverageNotOffered
from plans.models import (
    CurrentEntitlement,
    Customer,
    EarlierOverageTerms,
    OverageReport,
    OverageWindow,
    Plan,
)
from plans.selectors import live_subscriptions
from plans.subscriptions import read_back
from tesslate.lib.cause import Cause

HUNDRED = Decimal(100)
TERMS = ("plan_code", "included_cents", "allowance_cents", "markup_percent", "used")


def set_cap(*, user: User, cap_cents: int, organization_id: int | None = None) -> Customer | None:
    """Let a payer be billed for up to so many US cents a period beyond their plan; 0 for none,
    which is always accepted, by who never bought anything too (None).

    Raises OverageNotOffered, NotAnOwner, BillingUnavailable, BillingRefused.
    """
    customer = existing_customer(payer_for(user, organization_id))
    if customer is None and cap_cents:
        raise OverageNotOffered
    if customer is None:
        return None
    cause = Cause.user(user.pk, "overage")
    is_new = cap_cents > 0 and _have_it_billed(customer, cause)
    with transaction.atomic():
        row = Customer.objects.select_for_update().get(pk=customer.pk)
        before, row.overage_cap_cents = row.overage_cap_cents, cap_cents
        row.save(update_fields=["overage_cap_cents"])
        if is_new or before != cap_cents:
            record_act(
                action="overage.cap_set",
                cause=cause,
                target=row,
                user=row.user,
                organization=row.organization,
                before={"cap_cents": before},
                after={"cap_cents": cap_cents},
            )
        refresh_entitlements(users_of(row), cause=cause)
        if not cap_cents:
            _close_windows(row)
    return row


def _have_it_billed(customer: Customer, cause: Cause) -> bool:
    """Give one of the customer's subscriptions the metered price; whether it is news to us."""
    live = list(live_subscriptions(customer))
    if not live:
        raise OverageNotOffered
    if not can_be_billed(live[0]):
        raise OverageNotOffered("Only some plans can have it, paid by the month in US dollars.")
    metered = metered_price()
    chosen = next((row for row in live if bills(row, customer, metered)), live[0])
    known = bills(chosen, customer, metered)
    with told_to_callers():
        overage_catalogue.ensure_item(chosen)
        if not known:
            read_back(chosen.stripe_subscription_id, cause=cause)
    return not known


def _close_windows(customer: Customer) -> None:
    """What was reported stays; no window follows an entitlement that allows nothing."""
    now = timezone.now()
    running = customer.overage_windows.filter(period_end__gt=now, allowance_cents__gt=0)
    running.update(allowance_cents=0, due_at=now)


def offers_overage(customer: Customer | None) -> bool:
    subscription = None if customer is None else live_subscriptions(customer).first()
    return subscription is not None and can_be_billed(subscription)


def cap_in_force(customer: Customer | None) -> int:
    """US cents. A cap holds on the subscription that it was set for: after that has ended nothing
    goes beyond the plan until it is set again."""
    if customer is None or not customer.overage_cap_cents:
        return 0
    metered = metered_price()
    live = live_subscriptions(customer)
    return customer.overage_cap_cents if any(bills(s, customer, metered) for s in live) else 0


# Windows


def open_window(entitlement: CurrentEntitlement, customer: Customer) -> tuple[OverageWindow, bool]:
    """The window of the user's present period, with the present plan and the allowance as it is
    now; whether it is new. In a transaction."""
    plan = entitlement.plan
    terms = {
        "plan_code": plan.code,
        "included_cents": plan.budget_cents,
        "allowance_cents": entitlement.overage_cents,
        "markup_percent": plan.overage_markup_percent,
    }
    window, is_new = OverageWindow.objects.select_for_update().get_or_create(
        user_id=entitlement.user_id,
        customer=customer,
        period_start=entitlement.period_start,
        defaults={**terms, "period_end": entitlement.period_end},
    )
    if window.plan_code != plan.code:
        _keep_terms(window, ended_at=entitlement.decided_at)
        OverageWindow.objects.filter(pk=window.pk).update(**terms, used=0, due_at=timezone.now())
        window.refresh_from_db()
    # A lower cap holds for what is still to be used: what was reported stays.
    elif entitlement.overage_cents != window.allowance_cents:
        window.allowance_cents = entitlement.overage_cents
        window.due_at = timezone.now()
        window.save(update_fields=["allowance_cents", "due_at"])
    return window, is_new


def include_more(plan: Plan) -> None:
    """The plan includes another amount now, and its keys have it at once. Who holds it is billed
    for nothing that it includes; where it includes less, they keep what their period began with."""
    OverageWindow.objects.filter(
        plan_code=plan.code, period_end__gt=timezone.now(), included_cents__lt=plan.budget_cents
    ).update(included_cents=plan.budget_cents, due_at=timezone.now())


def _keep_terms(window: OverageWindow, *, ended_at: datetime) -> None:
    window.earlier.create(ended_at=ended_at, **{name: getattr(window, name) for name in TERMS})


def note_earlier_plans(window: OverageWindow, codes: Collection[str], *, at: datetime) -> None:
    """Plans that were held in the period without a window: what was used of their budgets stays
    used, and nothing beyond them was allowed."""
    EarlierOverageTerms.objects.bulk_create(
        EarlierOverageTerms(
            window=window,
            plan_code=plan.code,
            included_cents=plan.budget_cents,
            allowance_cents=0,
            ended_at=at,
        )
        for plan in Plan.objects.filter(code__in=codes)
    )


def units_due(window: OverageWindow) -> int:
    """US cents to charge for what was used so far, markup included, rounded down.

    After a change of plans in the period each plan's use is beyond by its own terms. What was used
    of a former plan's budget is used of the present one's; what was charged is not. The cap is the
    whole period's. Reads ``earlier``.
    """
    taken = charged = Decimal(0)
    for terms in (*window.earlier.all(), window):
        included = max(Decimal(0), Decimal(terms.included_cents) / HUNDRED - taken)
        beyond = min(terms.used - included, Decimal(terms.allowance_cents) / HUNDRED)
        taken += min(terms.used, included)
        charged += max(Decimal(0), beyond) * (HUNDRED + terms.markup_percent)
    cap = Decimal(window.allowance_cents) / HUNDRED * (HUNDRED + window.markup_percent)
    return int(min(charged, cap).to_integral_value(ROUND_FLOOR))


@transaction.atomic
def record_use(
    window_id: int, used: Decimal, *, at: datetime | None = None
) -> OverageReport | None:
    """Note what was used in a window, and what of it is still to be reported.

    Repeating it, or doing it twice at once, reports nothing twice. Use that goes down again (a
    credit) is made up for by reporting less later, for Stripe's meters only add.
    """
    now = at or timezone.now()
    window = OverageWindow.objects.select_for_update().get(pk=window_id)
    window.used, window.used_at = used, now
    due = units_due(window)
    report = None
    if due > window.units_reported:
        first = window.units_reported
        report = OverageReport.objects.create(
            window=window,
            identifier=f"overage-{window.pk}-{window.created_at:%Y%m%d%H%M%S%f}-{first}",
            first_unit=first,
            units=due - first,
            # What becomes known after the period's end is billed with the next one.
            occurred_at=now,
            next_attempt_at=now,
        )
        window.units_reported = due
    window.save(update_fields=["used", "used_at", "units_reported"])
    return report

"""How far beyond their plan's budget users may go, as payers have set it (plans.overage)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from django.db.models import Q

from accounts.models import Membership
from plans.access import LIVE_STATUSES, MEANINGS
from plans.decision import Entitlement
from plans.models import (
    CurrentEntitlement,
    Customer,
    OverageMeter,
    OverageWindow,
    Price,
    Subscription,
)
from plans.stripe_reading import price_ids

Source = CurrentEntitlement.Source


def allowances(decided: Mapping[int, Entitlement]) -> dict[int, int]:
    """User id to US cents at the gateway beyond what is included; for those who have any.

    A handful of queries however many users there are, and hardly any for those without a cap.
    """
    possible = {
        user_id: entitlement
        for user_id, entitlement in decided.items()
        if entitlement.plan.overage_allowed
        and entitlement.grace_ends_at is None
        and entitlement.limit_percent == 100
        and entitlement.source in (Source.SUBSCRIPTION, Source.ORGANIZATION)
    }
    payers = _payers(possible) if possible else {}
    if not payers:
        return {}
    subscriptions = _live_where_billed(payers.values())
    markups = _running_markups(possible)
    found = {}
    for user_id, customer in payers.items():
        entitlement = possible[user_id]
        cap = _share(entitlement, customer, subscriptions[customer.pk])
        if cap:
            plan = entitlement.plan
            markup = markups.get(
                (user_id, entitlement.period_start, plan.code), plan.overage_markup_percent
            )
            found[user_id] = cap * 100 // (100 + markup)
    return found


def can_be_billed(subscription: Subscription) -> bool:
    """Whether the subscription can have the metered price beside its own: Stripe bills that by the
    interval and in the currency of the subscription."""
    price = subscription.price
    return (
        price is not None
        and price.plan.overage_allowed
        and price.interval == Price.Interval.MONTH
        and price.currency == "usd"
    )


def metered_price() -> str:
    """The id at Stripe of the price that overage is billed by; empty before the first need."""
    meter = OverageMeter.objects.first()
    return "" if meter is None else meter.stripe_price_id


def bills(subscription: Subscription, customer: Customer, metered: str) -> bool:
    """Whether what the meter counts for the customer comes on the subscription's invoices, by our
    copy. The meter knows customers alone, so one subscription is enough, whichever gives the plan:
    a second would bill the same use again."""
    if not metered or subscription.snapshot.get("customer") != customer.stripe_customer_id:
        return False
    return metered in price_ids(subscription.snapshot)


def _share(
    entitlement: Entitlement, customer: Customer, subscriptions: Collection[Subscription]
) -> int:
    """US cents that the user may cost the payer: the whole cap, or of an organization's a part
    such that all seats together never exceed it."""
    if entitlement.source == Source.SUBSCRIPTION:
        giving = [row for row in subscriptions if row.pk == entitlement.source_id]
    else:
        giving = [row for row in subscriptions if _plan_id(row) == entitlement.plan.pk]
    if not any(map(can_be_billed, giving)):
        return 0
    if entitlement.source == Source.SUBSCRIPTION:
        return customer.overage_cap_cents
    return customer.overage_cap_cents // max(1, *(row.quantity for row in subscriptions))


def _plan_id(subscription: Subscription) -> int | None:
    return None if subscription.price is None else subscription.price.plan_id


def _payers(decided: Mapping[int, Entitlement]) -> dict[int, Customer]:
    """User id to whoever pays for them, where a cap is set."""
    memberships = [
        entitlement.source_id or 0
        for entitlement in decided.values()
        if entitlement.source == Source.ORGANIZATION
    ]
    seats: dict[int, int] = {}
    if memberships:
        rows = Membership.objects.filter(pk__in=memberships)
        seats = dict(rows.values_list("user_id", "organization_id"))
    customers = Customer.objects.filter(
        Q(user_id__in=decided.keys() - seats.keys()) | Q(organization_id__in=set(seats.values())),
        overage_cap_cents__gt=0,
    )
    of_users = {row.user_id: row for row in customers if row.user_id is not None}
    of_organizations = {row.organization_id: row for row in customers}
    return of_users | {
        user_id: of_organizations[organization_id]
        for user_id, organization_id in seats.items()
        if organization_id in of_organizations
    }


def _live_where_billed(customers: Iterable[Customer]) -> defaultdict[int, list[Subscription]]:
    """Customer id to live subscriptions, none where overage would be on no invoice."""
    by_id = {customer.pk: customer for customer in customers}
    rows = Subscription.objects.filter(customer_id__in=by_id).select_related("price__plan")
    found: defaultdict[int, list[Subscription]] = defaultdict(list)
    for row in rows.exclude(status__in=set(MEANINGS) - LIVE_STATUSES):
        found[row.customer_id].append(row)
    metered = metered_price()
    for pk, subscriptions in found.items():
        if not any(bills(row, by_id[pk], metered) for row in subscriptions):
            found[pk] = []
    return found


def _running_markups(decided: Mapping[int, Entitlement]) -> dict[tuple[int, datetime, str], int]:
    """What users are billed by in a period that has begun, whatever the plan asks by now: by any
    other the allowance would be worth more than the cap, or less."""
    windows = OverageWindow.objects.filter(
        user_id__in=decided,
        period_start__in={entitlement.period_start for entitlement in decided.values()},
    ).values_list("user_id", "period_start", "plan_code", "markup_percent")
    return {(user_id, start, code): markup for user_id, start, code, markup in windows}

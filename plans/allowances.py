"""How far beyond their plan's budget users may go, as payers have set it (plans.overage)."""

from collections.abc import Mapping
from datetime import datetime

from accounts.models import Membership
from plans.access import LIVE_STATUSES, MEANINGS
from plans.decision import Entitlement
from plans.models import CurrentEntitlement, Customer, OverageWindow

Source = CurrentEntitlement.Source


def allowances(decided: Mapping[int, Entitlement]) -> dict[int, int]:
    """User id to US cents at the gateway beyond what is included; for those who have any."""
    possible = {
        user_id: entitlement
        for user_id, entitlement in decided.items()
        if entitlement.plan.overage_allowed
        and entitlement.grace_ends_at is None
        and entitlement.limit_percent == 100
        and entitlement.source in (Source.SUBSCRIPTION, Source.ORGANIZATION)
    }
    if not possible:
        return {}
    own = dict(
        Customer.objects.filter(user_id__in=possible, overage_cap_cents__gt=0).values_list(
            "user_id", "overage_cap_cents"
        )
    )
    markups = _running_markups(possible)
    found = {}
    for user_id, entitlement in possible.items():
        if entitlement.source == Source.SUBSCRIPTION:
            cap = own.get(user_id, 0)
        else:
            cap = _seats_share(entitlement.source_id)
        if cap:
            markup = markups.get(
                (user_id, entitlement.period_start), entitlement.plan.overage_markup_percent
            )
            found[user_id] = cap * 100 // (100 + markup)
    return found


def _running_markups(decided: Mapping[int, Entitlement]) -> dict[tuple[int, datetime], int]:
    """What users are billed by in a period that has begun, whatever the plan asks by now: by any
    other the allowance would be worth more than the cap, or less."""
    windows = OverageWindow.objects.filter(
        user_id__in=decided,
        period_start__in={entitlement.period_start for entitlement in decided.values()},
    ).values_list("user_id", "period_start", "markup_percent")
    return {(user_id, start): markup for user_id, start, markup in windows}


def _seats_share(membership_id: int | None) -> int:
    """A seat's part of its organization's cap: all seats together never exceed it."""
    seat = Membership.objects.filter(pk=membership_id or 0).first()
    if seat is None:
        return 0
    customer = Customer.objects.filter(
        organization_id=seat.organization_id, overage_cap_cents__gt=0
    ).first()
    if customer is None:
        return 0
    live = customer.subscriptions.exclude(status__in=set(MEANINGS) - LIVE_STATUSES)
    subscription = live.order_by("-price__plan__rank", "-pk").first()
    if subscription is None:
        return 0
    return customer.overage_cap_cents // max(1, subscription.quantity)

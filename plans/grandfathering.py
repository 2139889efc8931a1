"""Moving payers from a price that is not sold any more to the one that replaced it.

Until staff do this, whoever has an old price keeps it. The new amount is owed from the next
renewal on: nothing is charged or paid back for the period that runs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet

from accounts.audit import record_act
from plans import stripe_client, stripe_reading
from plans.access import LIVE_STATUSES
from plans.errors import StripeError
from plans.models import Price, Subscription
from plans.stripe_reading import object_id
from plans.subscriptions import read_back
from tesslate.lib.cause import Cause


class CannotMove(Exception):
    """The text says why, and may be shown to staff."""


@dataclass(frozen=True, slots=True)
class Moves:
    """How many there were to move, and how many of them could not be."""

    found: int
    failed: int


def payers_of(price: Price) -> QuerySet[Subscription]:
    return price.subscriptions.filter(status__in=LIVE_STATUSES).order_by("pk")


def successor_of(price: Price) -> Price:
    """The price on sale of the same plan, interval and currency. Raises CannotMove."""
    found = Price.objects.filter(
        plan_id=price.plan_id,
        interval=price.interval,
        currency=price.currency,
        archived_at=None,
        stripe_price_id__isnull=False,
    ).first()
    if found is None:
        raise CannotMove(f"{price} has no successor on sale that Stripe knows.")
    return found


def move_payers(
    *, old: Price, new: Price, apply: bool, cause: Cause, tell: Callable[[str], None]
) -> Moves:
    """Move everybody who pays ``old`` to ``new``, one after the other; each is told before.

    Running it again carries on. One that Stripe refuses is told and left. Raises CannotMove when
    the two prices do not run for the same time in the same currency.
    """
    if (old.interval, old.currency) != (new.interval, new.currency):
        raise CannotMove("Both prices must be of one interval and one currency.")
    if new.archived_at is not None or new.stripe_price_id is None:
        raise CannotMove("The new price is not on sale.")
    found = failed = 0
    for subscription in _each(payers_of(old)):
        found += 1
        tell(f"{subscription.stripe_subscription_id} of {subscription.customer}: {old} to {new}")
        if not apply:
            continue
        try:
            move(subscription, new=new, cause=cause)
        except (CannotMove, StripeError) as error:
            failed += 1
            tell(f"  not moved: {error}")
    return Moves(found, failed)


def _each(subscriptions: QuerySet[Subscription]) -> Iterable[Subscription]:
    """Those there are now: moving takes them out of the query."""
    for pk in list(subscriptions.values_list("pk", flat=True)):
        yield Subscription.objects.select_related(
            "customer__user", "customer__organization", "price__plan"
        ).get(pk=pk)


def move(subscription: Subscription, *, new: Price, cause: Cause, reason: str = "") -> None:
    """Put one subscription on another price from its next renewal on.

    Raises CannotMove and StripeError. Moving it twice changes nothing.
    """
    stripe = stripe_client.connection()
    subscription_id = subscription.stripe_subscription_id
    found = stripe.subscription(subscription_id)
    if found is None:
        raise CannotMove("Stripe does not know it any more.")
    if found.get("schedule"):
        raise CannotMove("A change is planned for it already. Release its schedule first.")
    old_id = subscription.stripe_price_id
    item = next(
        (
            item
            for item in stripe_reading.items(found)
            if object_id(stripe_reading.item_price(item)) == old_id
        ),
        None,
    )
    if item is not None and old_id != new.stripe_price_id:
        stripe.update_subscription(
            subscription_id,
            idempotency_key=f"move:{item['id']}:{old_id}:{new.stripe_price_id}",
            items=[{"id": item["id"], "price": new.stripe_price_id}],
            proration_behavior="none",
        )
    with transaction.atomic():
        record_act(
            action="subscription.price_moved",
            cause=cause,
            target=subscription,
            user=subscription.customer.user,
            organization=subscription.customer.organization,
            reason=reason,
            before={"stripe_price_id": old_id},
            after={"stripe_price_id": new.stripe_price_id},
        )
        read_back(subscription_id, cause=cause)

"""Our copy of Stripe's subscriptions: read the present state, write it down, let access follow.

Every writer goes through read_back, so it does not matter what told us to look, in which order,
or how often. Readings are taken and applied under one lock per customer.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.audit import record_act
from plans import stripe_client, stripe_reading
from plans.access import LIVE_STATUSES, OVERDUE_STATUSES, TERMINAL_STATUSES, is_known
from plans.customers import Orphan, customer_of, lock_stripe_customer
from plans.entitlements import refresh_entitlements, users_of
from plans.models import BillingNotice, Price, Subscription
from plans.notices import note
from plans.stripe_reading import Json, moment, object_id
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)

# A subscription's invoices, newest first.
Invoices = Callable[[], Sequence[Json]]

# What a change in our copy is told by; the rest (read_at, snapshot) comes along silently.
COMPARED = (
    "status",
    "last_good_status",
    "price_id",
    "stripe_price_id",
    "last_good_price_id",
    "quantity",
    "started_at",
    "current_period_start",
    "current_period_end",
    "trial_end",
    "cancel_at_period_end",
    "cancel_at",
    "canceled_at",
    "ended_at",
    "awaits_payment",
    "collection_paused",
    "past_due_since",
    "pending_change",
)
# What the audit trail shows of a change.
AUDITED = ("status", "stripe_price_id", "quantity", "cancel_at_period_end", "cancel_at", "ended_at")


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a look at Stripe.

    ``outcome`` is a stable word: created, updated, unchanged, orphan, unmapped, vanished,
    unknown.
    """

    outcome: str
    subscription: Subscription | None = None
    found: Json | None = None
    # When the look began: whatever had happened at Stripe by then is in it.
    began_at: datetime | None = None


def read_back(
    subscription_id: str, *, cause: Cause, stripe_customer_id: str = "", at: datetime | None = None
) -> Reading:
    """Fetch the subscription from Stripe and make our copy, and all access, agree with it.

    Idempotent. Runs in the caller's transaction (or its own), which must end when it fails.
    Raises StripeUnavailable and StripeRejected.
    """
    stripe = stripe_client.connection()
    with transaction.atomic(savepoint=False):
        payer_id = stripe_customer_id or _customer_id_of(subscription_id)
        if not payer_id:
            return Reading("unknown")
        lock_stripe_customer(payer_id)
        began_at = timezone.now()
        found = stripe.subscription(subscription_id)
        if found is None:
            return _vanished(subscription_id, cause, at)
        return replace(apply(found, cause=cause, at=at), began_at=began_at)


def read_back_customer(
    stripe_customer_id: str, *, cause: Cause, at: datetime | None = None
) -> list[Reading]:
    """The same for all of a customer's subscriptions, those we hold and those we never saw."""
    stripe = stripe_client.connection()
    with transaction.atomic(savepoint=False):
        lock_stripe_customer(stripe_customer_id)
        held = set(
            Subscription.objects.filter(snapshot__customer=stripe_customer_id).values_list(
                "stripe_subscription_id", flat=True
            )
        )
        readings = []
        for found in list(stripe.subscriptions(customer=stripe_customer_id)):
            held.discard(found["id"])
            readings.append(apply(found, cause=cause, at=at))
        readings += [
            read_back(missing, cause=cause, stripe_customer_id=stripe_customer_id, at=at)
            for missing in sorted(held)
        ]
        return readings


def _customer_id_of(subscription_id: str) -> str:
    """Whose lock to take when the event did not say."""
    row = Subscription.objects.filter(stripe_subscription_id=subscription_id).first()
    if row is not None:
        return str(row.snapshot.get("customer") or row.customer.stripe_customer_id or "")
    found = stripe_client.connection().subscription(subscription_id)
    return "" if found is None else object_id(found.get("customer"))


def apply(found: Json, *, cause: Cause, at: datetime | None = None) -> Reading:
    """Write a reading down. The customer's lock must be held since before it was taken."""
    at = at or timezone.now()
    try:
        customer = customer_of(found, cause=cause)
    except Orphan:
        return Reading("orphan", found=found)
    row = _locked(object_id(found))
    if row is not None and _has_ended(row) and found.get("status") not in TERMINAL_STATUSES:
        # Stripe never brings an ended subscription back: an answer from a lagging replica.
        return Reading("unchanged", row, found)
    columns = columns_from(found, row, at)
    created = row is None
    row = row or Subscription(
        stripe_subscription_id=object_id(found), customer=customer, read_at=at
    )
    before = {name: getattr(row, name) for name in COMPARED}
    for name, value in columns.items():
        setattr(row, name, value)
    changed = created or before != {name: getattr(row, name) for name in COMPARED}
    row.customer = customer
    row.read_at = at
    prices = stripe_reading.price_ids(row.snapshot)
    row.snapshot = stripe_reading.without_personal_data(found)
    row.save(update_fields=None if changed else ("customer", "read_at", "snapshot", "updated_at"))
    if changed:
        _record_change(row, before, created, cause)
        _tell_payer(row, before)
    # A metered price beside the plan's decides whether there is overage.
    if changed or prices != stripe_reading.price_ids(row.snapshot):
        refresh_entitlements(users_of(customer), at=at, cause=cause)
    return Reading(_outcome(row, created, changed), row, found)


def _locked(subscription_id: str) -> Subscription | None:
    """Our copy, locked. Fixed statements here and below: each reading passes through them."""
    rows = Subscription.objects.raw(
        "SELECT * FROM plans_subscription WHERE stripe_subscription_id = %s FOR UPDATE",
        [subscription_id],
    )
    return next(iter(rows), None)


def _has_ended(row: Subscription) -> bool:
    """Stripe itself said so; a copy that we ended because Stripe lost it may yet come back."""
    return row.snapshot.get("status") in TERMINAL_STATUSES


def _outcome(row: Subscription, created: bool, changed: bool) -> str:
    if row.price_id is None and row.status in LIVE_STATUSES:
        return "unmapped"
    return "created" if created else "updated" if changed else "unchanged"


def columns_from(found: Json, row: Subscription | None, at: datetime) -> dict[str, Any]:
    """Our columns as Stripe's object has them; ``row`` is what we held, for the last good words."""
    item, price = plan_item(found)
    status = str(found.get("status") or "")
    last_good_status = status if is_known(status) else row.last_good_status if row else ""
    period = stripe_reading.period(found, item)
    # Asked for at most once, and only where the subscription itself does not tell.
    invoices = cache(lambda: stripe_client.connection().latest_invoices(object_id(found)))
    last_good = price.pk if price else (row.last_good_price_id if row else None)
    return {
        "status": status[:50],
        "last_good_status": last_good_status,
        "price_id": None if price is None else price.pk,
        "stripe_price_id": object_id(stripe_reading.item_price(item or {})),
        "last_good_price_id": last_good,
        "quantity": stripe_reading.quantity(item),
        "started_at": moment(found.get("start_date")),
        "current_period_start": period.start if period else None,
        "current_period_end": period.end if period else None,
        "trial_end": moment(found.get("trial_end")),
        "cancel_at_period_end": found.get("cancel_at_period_end") is True,
        "cancel_at": moment(found.get("cancel_at")),
        "canceled_at": moment(found.get("canceled_at")),
        "ended_at": moment(found.get("ended_at")),
        "awaits_payment": _awaits_payment(found, invoices),
        "collection_paused": bool(found.get("pause_collection")),
        "past_due_since": _overdue_since(found, invoices, row, at),
        "pending_change": stripe_reading.pending_change(found),
    }


def _overdue_since(
    found: Json, invoices: Invoices, row: Subscription | None, at: datetime
) -> datetime | None:
    """When the present run of failed payments began, told by Stripe's invoices.

    Not by the moment that we heard of it: events may be late, repeated or lost, and neither
    may make the grace period longer.
    """
    if found.get("status") not in OVERDUE_STATUSES:
        if not is_known(str(found.get("status"))) and row is not None:
            return row.past_due_since
        return None
    since = stripe_reading.unpaid_run_start(invoices())
    never_paid = invoices() and not any(map(stripe_reading.brought_money, invoices()))
    if since is None and never_paid:
        # Its only invoices were voided, so it is overdue from the start.
        since = moment(found.get("start_date"))
    return since or (row.past_due_since if row else None) or at


def _awaits_payment(found: Json, invoices: Invoices) -> bool:
    """Has its very first payment not arrived, though the subscription runs?

    The latest invoice tells, if money came by it. If not, a change of plans or a renewal may
    have made it while the first is still open.
    """
    latest = stripe_reading.latest_invoice(found)
    if not latest or stripe_reading.brought_money(latest):
        return False
    if latest.get("billing_reason") == "subscription_create":
        return stripe_reading.is_unpaid_first(latest)
    return any(map(stripe_reading.is_unpaid_first, invoices())) and not any(
        map(stripe_reading.brought_money, invoices())
    )


def plan_item(found: Json) -> tuple[Json | None, Price | None]:
    """The item that carries the plan, and our price for it.

    Of several mapped items the highest plan counts; add-ons beside it are not mapped. Without a
    mapped one it is the first, and no price.
    """
    items = stripe_reading.items(found)
    mapped = [(item, price) for item in items if (price := price_for(item)) is not None]
    if len(mapped) > 1:
        return max(mapped, key=lambda pair: pair[1].plan.rank)
    return mapped[0] if mapped else ((items[0] if items else None), None)


def price_for(item: Json) -> Price | None:
    """Our price for a subscription item: by its id, else by its lookup key, of which the price on
    sale has the right, then the one archived last."""
    at_stripe = stripe_reading.item_price(item)
    by_id = Price.objects.raw(
        "SELECT * FROM plans_price WHERE stripe_price_id = %s", [object_id(at_stripe)]
    )
    price = next(iter(by_id), None)
    lookup_key = at_stripe.get("lookup_key")
    if price is None and isinstance(lookup_key, str) and lookup_key:
        by_key = Price.objects.filter(lookup_key=lookup_key)
        price = by_key.order_by(F("archived_at").desc(nulls_first=True), "-pk").first()
    return price


def _vanished(subscription_id: str, cause: Cause, at: datetime | None) -> Reading:
    """Stripe does not know it (any more): it has ended, whatever it was."""
    at = at or timezone.now()
    row = _locked(subscription_id)
    if row is None:
        return Reading("vanished")
    if row.status not in TERMINAL_STATUSES:
        before = {name: getattr(row, name) for name in COMPARED}
        row.status = row.last_good_status = "canceled"
        row.ended_at = row.ended_at or at
        row.past_due_since = None
        row.read_at = at
        row.save()
        _record_change(row, before, created=False, cause=cause)
        refresh_entitlements(users_of(row.customer), at=at, cause=cause)
    return Reading("vanished", row)


def _record_change(row: Subscription, before: dict[str, Any], created: bool, cause: Cause) -> None:
    record_act(
        action="subscription.created" if created else "subscription.changed",
        cause=cause,
        target=row,
        user=row.customer.user_id,
        organization=row.customer.organization_id,
        before=None if created else _audited(before),
        after=_audited({name: getattr(row, name) for name in AUDITED}),
    )


def _audited(columns: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name in AUDITED
        if (value := columns[name]) is not None
    }


def _tell_payer(row: Subscription, before: dict[str, Any]) -> None:
    if row.status == "past_due" and before["status"] != "past_due" and row.past_due_since:
        note(
            customer=row.customer,
            kind=BillingNotice.Kind.PAYMENT_FAILED,
            subject=f"{row.stripe_subscription_id}:{row.past_due_since:%Y-%m-%dT%H:%M:%S}",
        )

"""What each kind of event makes us look at.

An event never tells what to write, only where to look: the handler names the object and its
present state is read from Stripe. So repeats, gaps and any order end the same way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from plans import collection, payments, settlement, stripe_client, stripe_reading
from plans.catalogue import follow_price, follow_product
from plans.coalescing import is_behind, settle_siblings
from plans.customers import (
    find_customer,
    forget_deleted,
    link,
    lock_stripe_customer,
    payer_from_metadata,
    relink_by_metadata,
)
from plans.entitlements import refresh_entitlements, users_of
from plans.event_types import INVOICE_CHANGES, SUBSCRIPTION_CHANGES
from plans.models import BillingNotice, BillingProblem, StripeEvent
from plans.notices import note
from plans.problems import open_problem
from plans.revenue import note_event
from plans.stripe_reading import Json, object_id
from plans.subscriptions import Reading, read_back, read_back_customer
from tesslate.lib.cause import Cause

State = StripeEvent.State
Notice = BillingNotice.Kind
Problem = BillingProblem.Kind

# How often a reading that looks older than the event is asked for again before it is believed:
# a change and its reversal look the same as a lagging replica.
BELIEVED_AT_ATTEMPT = 3


class ReadingBehind(Exception):
    """Stripe answered with the state from before the event. Nothing was written; ask again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an event: a StripeEvent state, and an outcome in stable words."""

    state: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event being processed. ``about`` is its object; only ids are taken from it."""

    event: StripeEvent
    about: Json
    previous: Json
    cause: Cause
    now: datetime

    @property
    def customer_id(self) -> str:
        return self.event.stripe_customer_id


def handle(event: StripeEvent, *, now: datetime) -> Verdict:
    """Do what the event calls for, in the caller's transaction.

    Raises StripeUnavailable, ReadingBehind, or whatever goes wrong: then nothing was written.
    """
    handler = HANDLERS.get(event.type)
    if handler is None:
        return Verdict(State.IGNORED, "ignored:type")
    payload = event.payload if isinstance(event.payload, Mapping) else {}
    data = payload.get("data") or {}
    about = data.get("object") or {"id": event.object_id, "customer": event.stripe_customer_id}
    previous = data.get("previous_attributes") or {}
    verdict = handler(Incoming(event, about, previous, Cause.stripe(event.event_id), now))
    note_event(event.type, about)
    return verdict


# Subscriptions


def on_subscription(incoming: Incoming) -> Verdict:
    reading = _read_back(incoming, object_id(incoming.about))
    if (
        reading.found is not None
        and incoming.event.attempts < BELIEVED_AT_ATTEMPT
        and is_behind(reading.found, incoming.about, incoming.previous)
    ):
        raise ReadingBehind
    if _is_stale(incoming, reading):
        return Verdict(State.PROCESSED, "subscription.stale")
    return _verdict(reading)


def on_trial_ending(incoming: Incoming) -> Verdict:
    reading = _read_back(incoming, object_id(incoming.about))
    row = reading.subscription
    if row is not None and row.status == "trialing" and row.trial_end is not None:
        note(
            customer=row.customer,
            kind=Notice.TRIAL_ENDING,
            subject=f"{row.stripe_subscription_id}:{row.trial_end:%Y-%m-%d}",
        )
    return _verdict(reading)


def on_schedule(incoming: Incoming) -> Verdict:
    """A schedule changes access only through its subscription."""
    about = incoming.about
    subscription = object_id(about.get("subscription")) or object_id(
        about.get("released_subscription")
    )
    if not subscription:
        return Verdict(State.IGNORED, "ignored:no_subscription")
    return _verdict(_read_back(incoming, subscription))


def _read_back(incoming: Incoming, subscription_id: str) -> Reading:
    reading = read_back(
        subscription_id,
        cause=incoming.cause,
        stripe_customer_id=incoming.customer_id,
        at=incoming.now,
    )
    serves_all = reading.outcome in {"created", "updated", "unchanged"}
    if serves_all and reading.found is not None and reading.began_at is not None:
        settle_siblings(incoming.event, reading.found, read_from=reading.began_at)
    if reading.subscription is not None:
        collection.review_open_problems(reading.subscription.customer)
    return reading


def _verdict(reading: Reading) -> Verdict:
    match reading.outcome:
        case "orphan":
            return Verdict(State.QUARANTINED, "quarantined:orphan")
        case "unmapped":
            return Verdict(State.QUARANTINED, "quarantined:price")
        case "unknown":
            return Verdict(State.IGNORED, "ignored:unknown_object")
    return Verdict(State.PROCESSED, f"subscription.{reading.outcome}")


def _is_stale(incoming: Incoming, reading: Reading) -> bool:
    """The event tells of a state that is no more, and we held the present one already."""
    return (
        reading.outcome == "unchanged"
        and reading.subscription is not None
        and incoming.about.get("status") not in (None, reading.subscription.status)
    )


# Invoices


def on_invoice(incoming: Incoming) -> Verdict:
    invoice = _invoice(incoming)
    subscription = stripe_reading.subscription_id(invoice)
    if not subscription:
        return Verdict(State.IGNORED, "ignored:no_subscription")
    return _verdict(_read_back(incoming, subscription))


def on_invoice_payment(incoming: Incoming) -> Verdict:
    """From basil on a payment names its invoice, and only the invoice its subscription."""
    invoice = stripe_client.connection().invoice(object_id(incoming.about.get("invoice")))
    subscription = "" if invoice is None else stripe_reading.subscription_id(invoice)
    if not subscription:
        return Verdict(State.IGNORED, "ignored:no_subscription")
    return _verdict(_read_back(incoming, subscription))


def on_action_required(incoming: Incoming) -> Verdict:
    verdict = on_invoice(incoming)
    invoice = stripe_client.connection().invoice(incoming.event.object_id)
    customer = find_customer(incoming.customer_id)
    if customer is not None and invoice is not None and invoice.get("status") == "open":
        note(customer=customer, kind=Notice.ACTION_REQUIRED, subject=incoming.event.object_id)
    return verdict


def on_invoice_standing(incoming: Incoming) -> Verdict:
    """Finalized or not, or given up: staff hear of it as well."""
    collection.review_invoice(
        incoming.event.object_id, customer=find_customer(incoming.customer_id)
    )
    return on_invoice(incoming)


def _invoice(incoming: Incoming) -> Json:
    """The event's own object, or Stripe's where the payload was pruned."""
    if incoming.event.payload is not None:
        return incoming.about
    return stripe_client.connection().invoice(incoming.event.object_id) or {}


# Customers


def on_customer(incoming: Incoming) -> Verdict:
    """Mail, name and tax change nothing; a new owner named by support does."""
    stripe_customer_id = object_id(incoming.about)
    lock_stripe_customer(stripe_customer_id)
    at_stripe = stripe_client.connection().customer(stripe_customer_id)
    if at_stripe is None or stripe_reading.is_deleted(at_stripe):
        return _customer_deleted(incoming, stripe_customer_id)
    if find_customer(stripe_customer_id) is None:
        return _customer_named(incoming, at_stripe)
    moved = relink_by_metadata(at_stripe, cause=incoming.cause)
    if moved is None:
        return Verdict(State.PROCESSED, "customer.unchanged")
    affected = [user_id for customer in moved for user_id in users_of(customer)]
    refresh_entitlements(affected, at=incoming.now, cause=incoming.cause)
    return Verdict(State.PROCESSED, "customer.relinked")


def _customer_named(incoming: Incoming, at_stripe: Json) -> Verdict:
    """A customer that nobody here was known for: perhaps its metadata names somebody now."""
    payer = payer_from_metadata(at_stripe)
    if payer is None or link(payer, object_id(at_stripe), cause=incoming.cause) is None:
        return Verdict(State.IGNORED, "ignored:unknown_object")
    read_back_customer(object_id(at_stripe), cause=incoming.cause, at=incoming.now)
    return Verdict(State.PROCESSED, "customer.linked")


def _customer_deleted(incoming: Incoming, stripe_customer_id: str) -> Verdict:
    """Stripe cancels a deleted customer's subscriptions; the user stays, and may buy again."""
    if forget_deleted(stripe_customer_id, cause=incoming.cause) is None:
        return Verdict(State.IGNORED, "ignored:unknown_object")
    read_back_customer(stripe_customer_id, cause=incoming.cause, at=incoming.now)
    return Verdict(State.PROCESSED, "customer.deleted")


# Checkout


def on_checkout(incoming: Incoming) -> Verdict:
    outcome = settlement.settle_checkout(
        object_id(incoming.about),
        cause=incoming.cause,
        payment_failed=incoming.event.type == "checkout.session.async_payment_failed",
        at=incoming.now,
    )
    if outcome.startswith("ignored:"):
        return Verdict(State.IGNORED, outcome)
    if outcome.startswith("quarantined:"):
        return Verdict(State.QUARANTINED, outcome)
    return Verdict(State.PROCESSED, outcome)


# Money going back


def on_refund(incoming: Incoming) -> Verdict:
    """A refund alone takes no access away; what it came with (a cancellation) is read back."""
    stripe_customer_id = incoming.customer_id or payments.customer_of_charge(
        object_id(incoming.about.get("charge"))
    )
    if find_customer(stripe_customer_id) is None:
        return Verdict(State.IGNORED, "ignored:unknown_object")
    if incoming.event.object_type == "refund":
        payments.review_refund(incoming.event.object_id, customer=find_customer(stripe_customer_id))
    read_back_customer(stripe_customer_id, cause=incoming.cause, at=incoming.now)
    return Verdict(State.PROCESSED, "refund.noted")


def on_dispute(incoming: Incoming) -> Verdict:
    return Verdict(
        State.PROCESSED, payments.follow_dispute(object_id(incoming.about), cause=incoming.cause)
    )


def on_fraud_warning(incoming: Incoming) -> Verdict:
    charge = object_id(incoming.about.get("charge"))
    open_problem(
        kind=Problem.FRAUD_WARNING,
        subject=incoming.event.object_id,
        summary=f"The card's bank suspects fraud in {charge}. Review; refund before a dispute.",
        customer=find_customer(payments.customer_of_charge(charge)),
    )
    return Verdict(State.PROCESSED, "fraud_warning.noted")


def on_credit_note(incoming: Incoming) -> Verdict:
    """It changes what an invoice earned (plans.revenue), and nobody's access."""
    return Verdict(State.PROCESSED, "credit_note.noted")


# Catalogue


def on_price(incoming: Incoming) -> Verdict:
    return Verdict(State.PROCESSED, follow_price(object_id(incoming.about), cause=incoming.cause))


def on_product(incoming: Incoming) -> Verdict:
    return Verdict(State.PROCESSED, follow_product(object_id(incoming.about), cause=incoming.cause))


def _all(prefix: str, names: str, handler: Callable[[Incoming], Verdict]) -> dict[str, Any]:
    return {f"{prefix}.{name}": handler for name in names.split()}


HANDLERS: dict[str, Callable[[Incoming], Verdict]] = {
    **dict.fromkeys(SUBSCRIPTION_CHANGES, on_subscription),
    **_all("customer.subscription", "trial_will_end", on_trial_ending),
    **_all(
        "subscription_schedule",
        "created updated released aborted canceled completed expiring",
        on_schedule,
    ),
    **dict.fromkeys(INVOICE_CHANGES, on_invoice),
    **_all("invoice", "payment_action_required", on_action_required),
    **_all("invoice", "finalization_failed finalized marked_uncollectible", on_invoice_standing),
    **_all("invoice_payment", "paid", on_invoice_payment),
    **_all("customer", "created updated deleted", on_customer),
    **_all(
        "checkout.session",
        "completed async_payment_succeeded async_payment_failed expired",
        on_checkout,
    ),
    **_all("charge", "refunded", on_refund),
    **_all("refund", "created updated failed", on_refund),
    **_all("credit_note", "created updated voided", on_credit_note),
    **_all(
        "charge.dispute",
        "created updated closed funds_withdrawn funds_reinstated",
        on_dispute,
    ),
    **_all("radar.early_fraud_warning", "created updated", on_fraud_warning),
    **_all("price", "created updated deleted", on_price),
    **_all("product", "created updated deleted", on_product),
}

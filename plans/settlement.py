"""What became of a checkout session: link the payer, close our row, read the subscription back.

Run by the webhook's worker and by the page that the payer returns to, whichever comes first.
"""

from datetime import datetime

from django.db import transaction

from plans import stripe_client
from plans.customers import (
    find_customer,
    link,
    lock_stripe_customer,
    payer_from_metadata,
    payer_from_reference,
)
from plans.models import BillingNotice, BillingProblem, Checkout
from plans.notices import note
from plans.problems import open_problem
from plans.stripe_reading import Json, object_id
from plans.subscriptions import read_back
from tesslate.lib.cause import Cause

State = Checkout.State


def settle_checkout(
    session_id: str, *, cause: Cause, payment_failed: bool = False, at: datetime | None = None
) -> str:
    """Bring our rows in line with a checkout session at Stripe; returns an outcome word.

    Idempotent. Runs in the caller's transaction (or its own), which must end when it fails.
    ``payment_failed`` says that a delayed payment did not arrive after all, which the
    session itself does not show. Raises StripeUnavailable.
    """
    session = stripe_client.connection().checkout_session(session_id)
    if session is None:
        return "ignored:unknown_object"
    if session.get("mode") != "subscription":
        return "ignored:not_a_subscription"
    with transaction.atomic(savepoint=False):
        stripe_customer_id = object_id(session.get("customer"))
        if stripe_customer_id:
            lock_stripe_customer(stripe_customer_id)
        _close(session, payment_failed)
        if session.get("status") != "complete":
            return f"checkout.{session.get('status')}"
        if not _link_payer(session, stripe_customer_id, cause):
            return "quarantined:orphan"
        subscription_id = object_id(session.get("subscription"))
        if not subscription_id:
            return "checkout.without_subscription"
        reading = read_back(
            subscription_id, cause=cause, stripe_customer_id=stripe_customer_id, at=at
        )
        if payment_failed and reading.subscription is not None:
            note(
                customer=reading.subscription.customer,
                kind=BillingNotice.Kind.CHECKOUT_FAILED,
                subject=session_id,
            )
        if reading.outcome == "orphan":
            return "quarantined:orphan"
        return f"checkout.{_state(session, payment_failed)}"


def _state(session: Json, payment_failed: bool) -> State:
    if session.get("status") == "open":
        return State.OPEN
    if session.get("status") != "complete":
        return State.EXPIRED
    if session.get("payment_status") != "unpaid":
        return State.COMPLETED
    return State.PAYMENT_FAILED if payment_failed else State.AWAITING_PAYMENT


def _close(session: Json, payment_failed: bool) -> None:
    row = Checkout.objects.select_for_update().filter(stripe_session_id=session["id"]).first()
    state = _state(session, payment_failed)
    if row is None or state == State.OPEN:
        return
    if row.state == State.PAYMENT_FAILED and state == State.AWAITING_PAYMENT:
        return  # an older event, read late: the payment failed since
    row.state = state
    row.save(update_fields=["state", "updated_at"])


def _link_payer(session: Json, stripe_customer_id: str, cause: Cause) -> bool:
    """Link by what our server wrote into the session; False if nobody at all can be named.

    Where the customer is somebody's already, that stands, whatever the session says.
    """
    payer = payer_from_reference(session.get("client_reference_id")) or payer_from_metadata(session)
    if payer is not None and link(payer, stripe_customer_id, cause=cause) is not None:
        return True
    if find_customer(stripe_customer_id) is not None:
        return True
    if payer is None:
        return True  # the subscription's or the customer's metadata may name one: read_back sees
    open_problem(
        kind=BillingProblem.Kind.ORPHAN_SUBSCRIPTION,
        subject=stripe_customer_id,
        summary=f"Checkout {session['id']} names {payer}, who is not a customer here (any more). "
        "Cancel and refund it.",
    )
    return False

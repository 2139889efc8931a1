"""Collecting: the first attempt, the retries of dunning, and what an outcome means for the plan.

Rules kept from Stripe (https://docs.stripe.com/billing/subscriptions/overview): the most recent
invoice that is not void decides between active and past due; the last failed retry ends in what the
account chose; a first invoice that is not paid within 23 hours ends the subscription.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox.stripe import timers
from sandbox.stripe.billing import invoices, methods, payments
from sandbox.stripe.errors import CardDeclined, InvalidRequest

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

DAY = 86_400
# A customer who is asked to pay by mail gets this long after the due date.
MAIL_PATIENCE_DAYS = 30
LIVE = ("trialing", "active", "past_due", "unpaid")

# What other parts of billing wait for. The first of these that says True has dealt with the paid
# invoice of a subscription (a pending update, a resumption) …
WAITING_FOR_PAYMENT: list[Callable[["World", Json, Json], bool]] = []
# … these learn that a subscription ended (its schedule), and what a bank answered (its checkout).
TOLD_OF_END: list[Callable[["World", Json], None]] = []
TOLD_OF_BANK: list[Callable[["World", Json, bool], None]] = []


def open_and_collect(world: "World", invoice: Json) -> None:
    """Finalize a draft; pay it if nothing is due, charge it if that is how it is collected."""
    sub = subscription_of(world, invoice)
    before = world.public(sub) if sub else None
    invoices.finalize(world, invoice)
    if sub:
        world.emit("customer.subscription.updated", sub, before=before)
    if _held_back(world, invoice, sub):
        return
    if invoice["amount_due"] == 0:
        invoices.mark_paid(world, invoice)
        after_payment(world, invoice)
    elif invoice["collection_method"] == "charge_automatically" and invoice["auto_advance"]:
        charge(world, invoice)


def subscription_of(world: "World", invoice: Json) -> Json | None:
    return world.find("subscription", invoice["_subscription"])


def _held_back(world: "World", invoice: Json, sub: Json | None) -> bool:
    """Paused collection: the invoice is written off or voided instead of charged."""
    pause = sub["pause_collection"] if sub else None
    if not pause or invoice["billing_reason"] != "subscription_cycle":
        return False
    if pause["behavior"] == "void":
        invoices.void(world, invoice)
    elif pause["behavior"] == "mark_uncollectible":
        invoices.mark_uncollectible(world, invoice)
    return True


def charge(
    world: "World",
    invoice: Json,
    *,
    method: Json | None = None,
    passed: bool = False,
    by_hand: bool = False,
) -> payments.Outcome:
    """Try once to collect an open invoice, and carry the outcome through."""
    customer = world.get("customer", invoice["customer"])
    sub = subscription_of(world, invoice)
    paying = method or methods.default_for(world, customer, sub)
    intent = world.get("payment_intent", invoice["_intent"])
    outcome = payments.attempt(world, intent, customer, paying, passed=passed)
    if outcome.kind == payments.SUCCEEDED:
        settled(world, invoice, counts=invoice["attempt_count"] == 0 or not by_hand)
    elif outcome.kind == payments.PROCESSING:
        _awaiting_bank(world, invoice)
    else:
        failed(world, invoice, action=outcome.kind == payments.ACTION, by_hand=by_hand)
    return outcome


def settled(world: "World", invoice: Json, *, counts: bool = False) -> None:
    """The money is there. `counts`: by an attempt that has not been counted yet."""
    invoices.mark_paid(world, invoice, counts=counts)
    _note_delinquency(world, invoice, late=False)
    after_payment(world, invoice)


def _awaiting_bank(world: "World", invoice: Json) -> None:
    before = world.public(invoice)
    world.edit(invoice).update(
        attempted=True, attempt_count=invoice["attempt_count"] + 1, next_payment_attempt=None
    )
    world.emit("invoice.updated", invoice, before=before)
    sub = subscription_of(world, invoice)
    if sub and sub["status"] == "incomplete" and world.behaviour.delayed_status == "active":
        set_status(world, sub, "active")


def failed(
    world: "World",
    invoice: Json,
    *,
    action: bool = False,
    by_hand: bool = False,
    counted: bool = False,
) -> None:
    """An attempt did not bring the money: note it, plan the next, say so.

    `counted`: the attempt was counted when it began (a bank debit).
    """
    before = world.public(invoice)
    first = invoice["attempt_count"] == 0
    world.edit(invoice)["attempted"] = True
    if first:
        invoice["_first_failed"] = world.now()
    exhausted = False
    if first or not by_hand:  # attempts by hand do not move the retry schedule
        invoice["attempt_count"] += not counted
        exhausted = _plan_next(world, invoice)
    if action:
        world.emit("invoice.payment_action_required", invoice)
    world.emit("invoice.updated", invoice, before=before)
    world.emit("invoice.payment_failed", invoice)
    _note_delinquency(world, invoice, late=True)
    sub = subscription_of(world, invoice)
    if sub and sub["status"] in ("active", "trialing") and not invoice.get("_for_pending_update"):
        set_status(world, sub, "past_due")
    if exhausted:
        _give_up(world, sub)


def _plan_next(world: "World", invoice: Json) -> bool:
    """Set the next automatic attempt; True when there are none left."""
    sub = subscription_of(world, invoice)
    invoice["next_payment_attempt"] = None
    if not invoice["auto_advance"] or (sub and sub["status"] == "incomplete"):
        return False
    days = world.behaviour.retry_days
    done = invoice["attempt_count"] - 1
    if done >= len(days):
        return True
    invoice["next_payment_attempt"] = invoice["_first_failed"] + int(days[done] * DAY)
    return False


def _give_up(world: "World", sub: Json | None) -> None:
    """All retries failed: what becomes of the subscription is the account's choice."""
    if sub is None or sub["status"] not in LIVE:
        return
    choice = world.behaviour.dunning_end
    if choice == "cancel":
        end(world, sub, reason="payment_failed")
    elif choice == "unpaid":
        set_status(world, sub, "unpaid")


def after_payment(world: "World", invoice: Json) -> None:
    """A paid or written-off invoice may bring its subscription back."""
    sub = subscription_of(world, invoice)
    if sub is None:
        return
    if any(waiting(world, sub, invoice) for waiting in WAITING_FOR_PAYMENT):
        return
    if sub["status"] in ("incomplete", "past_due", "unpaid"):
        latest = invoices.latest_that_counts(world, sub)
        if latest and latest["status"] in ("paid", "uncollectible"):
            set_status(world, sub, "active")


def after_voiding(world: "World", invoice: Json) -> None:
    """A void invoice no longer counts; a first invoice that is void ends its subscription."""
    sub = subscription_of(world, invoice)
    if sub is None:
        return
    if sub["status"] == "incomplete":
        before = world.public(sub)
        world.edit(sub).update(status="incomplete_expired", ended_at=world.now())
        world.emit("customer.subscription.updated", sub, before=before)
    else:
        after_payment(world, invoice)


def set_status(world: "World", sub: Json, status: str) -> None:
    if sub["status"] == status:
        return
    before = world.public(sub)
    world.edit(sub)["status"] = status
    if not sub.get("_unborn"):  # its `created` event has not been told yet
        world.emit("customer.subscription.updated", sub, before=before)


def end(world: "World", sub: Json, *, reason: str, status: str = "canceled") -> None:
    """A subscription ends now, for whatever reason."""
    now = world.now()
    was_incomplete = sub["status"] == "incomplete"
    world.edit(sub).update(
        canceled_at=sub["canceled_at"] or now,
        ended_at=now,
        pending_update=None,
        status=status,
    )
    sub["cancellation_details"] = {**sub["cancellation_details"], "reason": reason}
    if was_incomplete:
        latest = world.find("invoice", sub["latest_invoice"])
        if latest and latest["status"] == "open":
            invoices.void(world, latest)
    held = world.state.each("invoice", "_subscription", sub["id"])
    invoices.stop_collecting(world, held)
    for told in TOLD_OF_END:
        told(world, sub)
    world.emit("customer.subscription.deleted", sub)


def _note_delinquency(world: "World", invoice: Json, *, late: bool) -> None:
    customer = world.get("customer", invoice["customer"])
    if not customer.get("deleted") and customer["delinquent"] != late:
        before = world.public(customer)
        world.edit(customer)["delinquent"] = late
        world.emit("customer.updated", customer, before=before)


def pay_by_hand(
    world: "World", invoice: Json, *, method: Json | None = None, out_of_band: bool = False
) -> None:
    """`POST /v1/invoices/{id}/pay`. Raises CardDeclined; the failed attempt stays recorded."""
    if invoice["status"] == "paid":
        raise InvalidRequest("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] == "draft":
        invoices.finalize(world, invoice)
    if invoice["status"] not in ("open", "uncollectible"):
        raise InvalidRequest(
            f"The invoice has status {invoice['status']} and cannot be paid.",
            code="invoice_not_open",
        )
    if out_of_band or invoice["amount_due"] == 0:
        invoices.mark_paid(world, invoice, out_of_band=out_of_band)
        _note_delinquency(world, invoice, late=False)
        after_payment(world, invoice)
        return
    customer = world.get("customer", invoice["customer"])
    if not (method or methods.default_for(world, customer, subscription_of(world, invoice))):
        raise InvalidRequest(NO_METHOD, code="resource_missing")
    outcome = charge(world, invoice, method=method, by_hand=True)
    if outcome.kind == payments.DECLINED:
        raise methods.declined(outcome.decline_code)
    if outcome.kind == payments.ACTION:
        raise CardDeclined(
            "Invoice payment requires additional user action before completion "
            "successfully. It can be completed using PaymentIntent "
            f"{invoice['_intent']}.",
            code="invoice_payment_intent_requires_action",
        )


NO_METHOD = (
    "This customer has no attached payment source or default payment method. Please consider "
    "adding a default payment method. For more information, visit https://stripe.com/docs/billing/"
    "subscriptions/payment-methods-setting#payment-method-priority."
)


# --- by itself


def _invoice_due(world: "World", invoice: Json) -> int | None:
    if not invoice["auto_advance"]:
        return None
    due: int | None = None
    if invoice["status"] == "draft":
        due = invoice["automatically_finalizes_at"]
    elif invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        due = invoice["next_payment_attempt"]
    elif invoice["status"] == "open":
        due = invoice["due_date"] + (MAIL_PATIENCE_DAYS * DAY if invoice.get("_overdue") else 0)
    return due


def _invoice_fires(world: "World", invoice: Json) -> None:
    if invoice["status"] == "draft":
        with world.events_in_order(COLLECTION_ORDER):
            open_and_collect(world, invoice)
        return
    if invoice["collection_method"] == "charge_automatically":
        with world.events_in_order(COLLECTION_ORDER):
            charge(world, invoice)
        return
    sub = subscription_of(world, invoice)
    if not invoice.get("_overdue"):
        world.edit(invoice)["_overdue"] = True
        world.emit("invoice.overdue", invoice)
        if sub and sub["status"] == "active":
            set_status(world, sub, "past_due")
    else:
        before = world.public(invoice)
        world.edit(invoice)["auto_advance"] = False
        world.emit("invoice.updated", invoice, before=before)
        _give_up(world, sub)


def bank_answers(world: "World", intent: Json, *, well: bool) -> None:
    """A delayed payment settles or is returned."""
    payments.finish_debit(world, intent, well=well)
    for payment in world.state.each("invoice_payment", "_intent", intent["id"]):
        invoice = world.get("invoice", payment["invoice"])
        if invoice["status"] not in ("open", "uncollectible"):
            continue
        if well:
            settled(world, invoice)
        else:
            world.edit(invoice)["_first_failed"] = world.now()
            failed(world, invoice, counted=True)
    for told in TOLD_OF_BANK:
        told(world, intent, well)


# In the order in which they usually arrive, within one attempt.
COLLECTION_ORDER = (
    "invoice.finalized",
    "invoice.sent",
    "charge.succeeded",
    "charge.failed",
    "charge.pending",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.requires_action",
    "payment_intent.created",
    "customer.updated",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
    "customer.subscription.updated",
    "customer.subscription.deleted",
)

timers.register("invoice", _invoice_due, _invoice_fires, rank=3)
timers.register(
    "payment_intent",
    lambda world, intent: intent.get("_settles_at"),
    lambda world, intent: bank_answers(world, intent, well=intent["_settles_well"]),
    rank=2,
)

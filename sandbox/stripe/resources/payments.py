"""Payment and setup intents, charges, refunds, disputes, credit notes, balance transactions."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import collection, methods, payments, refunds
from sandbox.stripe.billing import customers as people
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import page
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


def _of(world: "World", kind: str, params: Json, *fields: str) -> list[str] | None:
    """The keys that the first given filter leaves."""
    for field in fields:
        if field in params:
            return world.state.where(kind, field, params[field])
    return None


# --- payment intents


@route("POST", "/v1/payment_intents", "PaymentIntentCreateParams")
def create_intent(world: "World", params: Json) -> Json:
    customer = people.present(world, params["customer"]) if "customer" in params else None
    world.follow(customer)
    intent = payments.new_intent(
        world,
        customer,
        params["amount"],
        params["currency"],
        description=params.get("description"),
        metadata=merged(None, params),
    )
    if "payment_method" in params:
        method = methods.resolve(world, params["payment_method"])
        intent.update(payment_method=method["id"], status="requires_confirmation")
    if params.get("confirm"):
        _confirm(world, intent, params)
    return render(world, intent)


@route("GET", "/v1/payment_intents/{id}", "PaymentIntentRetrieveParams")
def retrieve_intent(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("payment_intent", id, noun="payment_intent", param="intent"))


@route("GET", "/v1/payment_intents", "PaymentIntentListParams")
def list_intents(world: "World", params: Json) -> Json:
    keys = _of(world, "payment_intent", params, "customer")
    return page(world, "payment_intent", params, "/v1/payment_intents", keys=keys)


@route("POST", "/v1/payment_intents/{id}/confirm", "PaymentIntentConfirmParams")
def confirm_intent(world: "World", params: Json, id: str) -> Json:
    """Pay. A card that needs 3-D Secure passes it the second time it is confirmed."""
    intent = world.get("payment_intent", id, noun="payment_intent", param="intent")
    _confirm(world, intent, params)
    return render(world, intent)


def _confirm(world: "World", intent: Json, params: Json) -> None:
    if intent["status"] in ("succeeded", "canceled", "processing"):
        raise InvalidRequest(
            f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}.",
            code="payment_intent_unexpected_state",
        )
    customer = world.find("customer", intent["customer"])
    world.follow(customer)
    wanted = params.get("payment_method") or intent["payment_method"]
    if wanted is None:
        raise InvalidRequest(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    method = methods.resolve(world, wanted)
    if customer and not method["customer"] and intent["setup_future_usage"]:
        methods.attach(world, method, customer)
    passed = intent["status"] == "requires_action"
    with world.events_in_order(collection.COLLECTION_ORDER):
        outcome = _carry_out(world, intent, customer, method, passed)
    if outcome.kind == payments.DECLINED:
        raise methods.declined(outcome.decline_code, payment_intent=world.public(intent))


def _carry_out(
    world: "World", intent: Json, customer: Json | None, method: Json, passed: bool
) -> payments.Outcome:
    for payment in world.state.each("invoice_payment", "_intent", intent["id"]):
        invoice = world.get("invoice", payment["invoice"])
        if invoice["status"] == "open":
            return collection.charge(world, invoice, method=method, passed=passed, by_hand=True)
    return payments.attempt(world, intent, customer, method, passed=passed)


@route("POST", "/v1/payment_intents/{id}/cancel", "PaymentIntentCancelParams")
def cancel_intent(world: "World", params: Json, id: str) -> Json:
    intent = world.get("payment_intent", id, noun="payment_intent", param="intent")
    if intent["status"] in ("succeeded", "canceled"):
        raise InvalidRequest(
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}.",
            code="payment_intent_unexpected_state",
        )
    world.edit(intent).update(
        canceled_at=world.now(),
        cancellation_reason=params.get("cancellation_reason"),
        status="canceled",
    )
    world.emit("payment_intent.canceled", intent)
    return render(world, intent)


@route("GET", "/v1/setup_intents/{id}", "SetupIntentRetrieveParams")
def retrieve_setup(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("setup_intent", id, noun="setupintent"))


# --- charges, refunds


@route("GET", "/v1/charges/{id}", "ChargeRetrieveParams")
def retrieve_charge(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("charge", id))


@route("GET", "/v1/charges", "ChargeListParams")
def list_charges(world: "World", params: Json) -> Json:
    keys = _of(world, "charge", params, "payment_intent", "customer")
    return page(world, "charge", params, "/v1/charges", keys=keys)


@route("POST", "/v1/refunds", "RefundCreateParams")
def create_refund(world: "World", params: Json) -> Json:
    if "payment_intent" in params:
        intent = world.get("payment_intent", params["payment_intent"], param="payment_intent")
        charge = world.get("charge", intent["latest_charge"] or "")
    else:
        charge = world.get("charge", params.get("charge") or "", param="charge")
    world.follow(world.find("customer", charge["customer"]))
    made = refunds.refund(
        world,
        charge,
        amount=params.get("amount"),
        reason=params.get("reason"),
        metadata=merged(None, params),
    )
    return render(world, made)


@route("GET", "/v1/refunds/{id}", "RefundRetrieveParams")
def retrieve_refund(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("refund", id))


@route("POST", "/v1/refunds/{id}", "RefundUpdateParams")
def update_refund(world: "World", params: Json, id: str) -> Json:
    made = world.get("refund", id)
    before = world.public(made)
    world.edit(made)["metadata"] = merged(made["metadata"], params)
    world.emit("charge.refund.updated", made, before=before)
    world.emit("refund.updated", made, before=before)
    return render(world, made)


@route("GET", "/v1/refunds", "RefundListParams")
def list_refunds(world: "World", params: Json) -> Json:
    keys = _of(world, "refund", params, "charge", "payment_intent")
    return page(world, "refund", params, "/v1/refunds", keys=keys)


# --- disputes, warnings


@route("GET", "/v1/disputes/{id}", "DisputeRetrieveParams")
def retrieve_dispute(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("dispute", id))


@route("POST", "/v1/disputes/{id}", "DisputeUpdateParams")
def update_dispute(world: "World", params: Json, id: str) -> Json:
    dispute = world.get("dispute", id)
    before = world.public(dispute)
    world.edit(dispute)["metadata"] = merged(dispute["metadata"], params)
    dispute["evidence"] = {**dispute["evidence"], **(params.get("evidence") or {})}
    world.emit("charge.dispute.updated", dispute, before=before)
    if params.get("submit"):
        refunds.move_dispute(world, dispute, "under_review")
    return render(world, dispute)


@route("POST", "/v1/disputes/{id}/close", "DisputeCloseParams")
def close_dispute(world: "World", params: Json, id: str) -> Json:
    dispute = world.get("dispute", id)
    refunds.move_dispute(world, dispute, "lost")
    return render(world, dispute)


@route("GET", "/v1/disputes", "DisputeListParams")
def list_disputes(world: "World", params: Json) -> Json:
    keys = _of(world, "dispute", params, "charge")
    return page(world, "dispute", params, "/v1/disputes", keys=keys)


@route("GET", "/v1/radar/early_fraud_warnings/{id}", "radar.EarlyFraudWarningRetrieveParams")
def retrieve_warning(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("radar.early_fraud_warning", id, noun="early fraud warning"))


@route("GET", "/v1/radar/early_fraud_warnings", "radar.EarlyFraudWarningListParams")
def list_warnings(world: "World", params: Json) -> Json:
    def wanted(warning: Json) -> bool:
        return params.get("charge") in (None, warning["charge"])

    url = "/v1/radar/early_fraud_warnings"
    return page(world, "radar.early_fraud_warning", params, url, wanted=wanted)


# --- credit notes, balance


@route("POST", "/v1/credit_notes", "CreditNoteCreateParams")
def create_note(world: "World", params: Json) -> Json:
    invoice = world.get("invoice", params["invoice"], param="invoice")
    world.follow(invoice)
    return render(world, refunds.credit_note(world, invoice, params))


@route("GET", "/v1/credit_notes/{id}", "CreditNoteRetrieveParams")
def retrieve_note(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("credit_note", id))


@route("GET", "/v1/credit_notes", "CreditNoteListParams")
def list_notes(world: "World", params: Json) -> Json:
    keys = _of(world, "credit_note", params, "invoice")
    return page(world, "credit_note", params, "/v1/credit_notes", keys=keys)


@route("GET", "/v1/balance_transactions/{id}", "BalanceTransactionRetrieveParams")
def retrieve_entry(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("balance_transaction", id))


@route("GET", "/v1/balance_transactions", "BalanceTransactionListParams")
def list_entries(world: "World", params: Json) -> Json:
    def wanted(entry: Json) -> bool:
        return params.get("type") in (None, entry["type"]) and (
            params.get("source") in (None, entry["source"])
        )

    return page(world, "balance_transaction", params, "/v1/balance_transactions", wanted=wanted)

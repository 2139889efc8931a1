"""Payment intents and charges: one attempt to take money, and what the bank says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import amounts, methods

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

SUCCEEDED, DECLINED, ACTION, PROCESSING = "succeeded", "declined", "action", "processing"


@dataclass(frozen=True)
class Outcome:
    kind: str
    decline_code: str = ""


def new_intent(world: "World", customer: Json | None, amount: int, currency: str, **f: Any) -> Json:
    intent = world.new(
        "payment_intent",
        amount=amount,
        amount_received=0,
        currency=currency,
        customer=customer["id"] if customer else None,
        status="requires_payment_method",
        **f,
    )
    intent["client_secret"] = f"{intent['id']}_secret_{world.ids.text(25)}"
    world.emit("payment_intent.created", intent)
    return intent


def foresee(world: "World", customer: Json | None, method: Json | None) -> Outcome:
    """What the bank will say to the next charge. Uses up one of the customer's ordered failures."""
    if customer and world.spend_failure(customer["id"]):
        return Outcome(DECLINED, "generic_decline")
    behaviour = method["_behaviour"] if method else methods.ATTACHES_ONLY
    if behaviour in (methods.DELAYED, methods.DELAYED_FAILS):
        return Outcome(PROCESSING)
    if behaviour == methods.NEEDS_ACTION:
        return Outcome(ACTION)
    if behaviour == methods.SUCCEEDS:
        return Outcome(SUCCEEDED)
    return Outcome(DECLINED, "generic_decline" if behaviour == methods.ATTACHES_ONLY else behaviour)


def attempt(
    world: "World",
    intent: Json,
    customer: Json | None,
    method: Json | None,
    *,
    passed: bool = False,
) -> Outcome:
    """Charge the intent once. `passed`: the payer has just passed 3-D Secure."""
    outcome = foresee(world, customer, method)
    if passed and outcome.kind == ACTION:
        outcome = Outcome(SUCCEEDED)
    world.edit(intent)["payment_method"] = method["id"] if method else None
    if outcome.kind == SUCCEEDED:
        succeed(world, intent, method)
    elif outcome.kind == DECLINED:
        decline(world, intent, method, outcome.decline_code)
    elif outcome.kind == ACTION:
        intent["status"] = "requires_action"
        intent["next_action"] = {
            "type": "use_stripe_sdk",
            "use_stripe_sdk": {"type": "three_d_secure_redirect"},
        }
        world.emit("payment_intent.requires_action", intent)
    elif method:
        _start_debit(world, intent, method)
    return outcome


def succeed(world: "World", intent: Json, method: Json | None) -> None:
    charge = _charge(world, intent, method, status="succeeded", paid=True)
    charge["amount_captured"] = intent["amount"]
    charge["outcome"] = {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": None,
        "risk_level": "normal",
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    charge["balance_transaction"] = book(world, charge["id"], intent["amount"], intent["currency"])
    charge["receipt_url"] = f"{world.base_url}/receipts/{charge['id']}"
    world.edit(intent).update(
        amount_received=intent["amount"],
        last_payment_error=None,
        latest_charge=charge["id"],
        next_action=None,
        processing=None,
        status="succeeded",
    )
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)


def decline(world: "World", intent: Json, method: Json | None, decline_code: str) -> None:
    message = methods.DECLINES[decline_code]
    charge = _charge(world, intent, method, status="failed", paid=False)
    charge.update(captured=False, failure_code="card_declined", failure_message=message)
    charge["outcome"] = {
        "advice_code": "try_again_later",
        "network_advice_code": None,
        "network_decline_code": "05",
        "network_status": "declined_by_network",
        "reason": decline_code,
        "risk_level": "normal",
        "seller_message": "The bank did not return any further details with this decline.",
        "type": "issuer_declined",
    }
    world.edit(intent).update(
        last_payment_error={
            "charge": charge["id"],
            "code": "card_declined",
            "decline_code": decline_code,
            "message": message,
            "payment_method": world.public(method) if method else None,
            "type": "card_error",
        },
        latest_charge=charge["id"],
        next_action=None,
        payment_method=None,
        processing=None,
        status="requires_payment_method",
    )
    world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)


def _start_debit(world: "World", intent: Json, method: Json) -> None:
    charge = _charge(world, intent, method, status="pending", paid=False)
    intent.update(
        latest_charge=charge["id"],
        processing={"type": method["type"]},
        status="processing",
        _settles_at=world.now() + world.behaviour.delayed_seconds,
        _settles_well=method["_behaviour"] == methods.DELAYED,
    )
    world.emit("charge.pending", charge)
    world.emit("payment_intent.processing", intent)


def finish_debit(world: "World", intent: Json, *, well: bool) -> None:
    """The bank has answered a delayed payment."""
    method = world.find("payment_method", intent["payment_method"])
    charge = world.edit(world.get("charge", intent["latest_charge"]))
    world.edit(intent)["_settles_at"] = None
    if well:
        charge.update(status="succeeded", paid=True, amount_captured=charge["amount"])
        charge["balance_transaction"] = book(
            world, charge["id"], charge["amount"], charge["currency"]
        )
        intent.update(amount_received=intent["amount"], processing=None, status="succeeded")
        world.emit("charge.succeeded", charge)
        world.emit("payment_intent.succeeded", intent)
        return
    message = "The bank returned the debit: insufficient funds."
    charge.update(status="failed", failure_code="insufficient_funds", failure_message=message)
    intent.update(
        last_payment_error={
            "charge": charge["id"],
            "code": "payment_intent_payment_attempt_failed",
            "message": message,
            "payment_method": world.public(method) if method else None,
            "type": "invalid_request_error",
        },
        payment_method=None,
        processing=None,
        status="requires_payment_method",
    )
    world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)


def _charge(world: "World", intent: Json, method: Json | None, **fields: Any) -> Json:
    details = None
    if method:
        kind = method["type"]
        details = {kind: dict(method[kind]), "type": kind}
    return world.new(
        "charge",
        amount=intent["amount"],
        amount_refunded=0,
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        payment_intent=intent["id"],
        payment_method=method["id"] if method else None,
        payment_method_details=details,
        **fields,
    )


def book(world: "World", source: str, amount: int, currency: str, kind: str = "charge") -> str:
    """Enter a movement of money in the balance; the fee is known, the money comes later."""
    fee = 0
    if kind == "charge":
        fee = amounts.fee(amount, world.behaviour.fee_percent, world.behaviour.fee_fixed)
    entry = world.new(
        "balance_transaction",
        amount=amount,
        available_on=world.now() + 2 * 86_400,
        currency=currency,
        fee=fee,
        fee_details=[
            {
                "amount": fee,
                "application": None,
                "currency": currency,
                "description": "Stripe processing fees",
                "type": "stripe_fee",
            }
        ]
        if fee
        else [],
        net=amount - fee,
        reporting_category=kind,
        source=source,
        status="pending",
        type={"dispute": "adjustment", "dispute_reversal": "adjustment"}.get(kind, kind),
    )
    entry_id: str = entry["id"]
    return entry_id

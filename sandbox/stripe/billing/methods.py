"""Payment methods and how each behaves, by Stripe's own names for its test methods.

https://docs.stripe.com/testing: every `pm_card_…` name stands for a card that always does the same.
A named test method is copied when it is used, as at Stripe; the copy keeps the behaviour.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import CardDeclined, InvalidRequest, Missing

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

SUCCEEDS = "succeeds"
ATTACHES_ONLY = "attaches_only"  # can be saved, every charge fails
NEEDS_ACTION = "needs_action"  # 3-D Secure on every payment
DELAYED = "delayed"  # a bank debit that is honoured after some days
DELAYED_FAILS = "delayed_fails"  # a bank debit that is returned after some days

DECLINES = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
    "fraudulent": "Your card was declined.",
}


@dataclass(frozen=True)
class TestMethod:
    behaviour: str
    last4: str = "4242"
    brand: str = "visa"
    type: str = "card"


TEST_METHODS = {
    "pm_card_visa": TestMethod(SUCCEEDS),
    "pm_card_mastercard": TestMethod(SUCCEEDS, "4444", "mastercard"),
    "pm_card_amex": TestMethod(SUCCEEDS, "8431", "amex"),
    "pm_card_chargeCustomerFail": TestMethod(ATTACHES_ONLY, "0341"),
    "pm_card_chargeDeclined": TestMethod("generic_decline", "0002"),
    "pm_card_visa_chargeDeclined": TestMethod("generic_decline", "0002"),
    "pm_card_chargeDeclinedInsufficientFunds": TestMethod("insufficient_funds", "9995"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": TestMethod("insufficient_funds", "9995"),
    "pm_card_chargeDeclinedExpiredCard": TestMethod("expired_card", "0069"),
    "pm_card_chargeDeclinedIncorrectCvc": TestMethod("incorrect_cvc", "0127"),
    "pm_card_chargeDeclinedProcessingError": TestMethod("processing_error", "0119"),
    "pm_card_chargeDeclinedFraudulent": TestMethod("fraudulent", "0019"),
    "pm_card_authenticationRequired": TestMethod(NEEDS_ACTION, "3184"),
    "pm_card_threeDSecure2Required": TestMethod(NEEDS_ACTION, "3220"),
    "pm_usBankAccount_success": TestMethod(DELAYED, "6789", type="us_bank_account"),
    "pm_usBankAccount_insufficientFunds": TestMethod(DELAYED_FAILS, "2227", type="us_bank_account"),
    "pm_sepaDebit": TestMethod(DELAYED, "3201", type="sepa_debit"),
    "pm_sepaDebit_failed": TestMethod(DELAYED_FAILS, "3202", type="sepa_debit"),
}


def create(world: "World", test: TestMethod, **fields: Any) -> Json:
    method = world.new("payment_method", type=test.type, _behaviour=test.behaviour, **fields)
    if test.type == "card":
        method["card"] = {
            **method["card"],
            "brand": test.brand,
            "display_brand": test.brand,
            "last4": test.last4,
            "fingerprint": world.ids.text(16),
        }
    else:
        del method["card"]
        method[test.type] = {
            "bank_name": "STRIPE TEST BANK",
            "country": "DE" if test.type == "sepa_debit" else "US",
            "fingerprint": world.ids.text(16),
            "last4": test.last4,
        }
    return method


def resolve(world: "World", id: str, param: str = "payment_method") -> Json:
    """A payment method by id, or a fresh copy of a named test method."""
    test = TEST_METHODS.get(id)
    if test:
        return create(world, test)
    found = world.find("payment_method", id)
    if found is None:
        raise Missing.thing("PaymentMethod", id, param)
    return found


def attach(world: "World", method: Json, customer: Json) -> Json:
    """Save a method for a customer. A card that the bank refuses outright is refused here too."""
    if method["customer"] == customer["id"]:
        return method
    if method["customer"] or method.get("_used"):
        raise InvalidRequest(
            "The payment method you provided has already been attached to a customer."
        )
    if method["_behaviour"] in DECLINES:
        raise declined(method["_behaviour"])
    world.edit(method)["customer"] = customer["id"]
    world.state.reindex(method)
    world.emit("payment_method.attached", method)
    return method


def declined(decline_code: str, **details: Any) -> CardDeclined:
    specific = decline_code in ("expired_card", "incorrect_cvc", "processing_error",
                                "authentication_required")  # fmt: skip
    return CardDeclined(
        DECLINES[decline_code],
        code=decline_code if specific else "card_declined",
        decline_code=decline_code,
        **details,
    )


def default_for(world: "World", customer: Json, subscription: Json | None = None) -> Json | None:
    """What a recurring payment goes to: the subscription's own method, else the customer's."""
    own = subscription["default_payment_method"] if subscription else None
    usual = customer["invoice_settings"]["default_payment_method"]
    return world.find("payment_method", own or usual)


def label(method: Json | None) -> str:
    """For people: `Visa •••• 4242`."""
    if method is None:
        return "No payment method"
    details = method[method["type"]]
    name = details.get("brand") or method["type"].replace("_", " ")
    return f"{name.title()} •••• {details['last4']}"

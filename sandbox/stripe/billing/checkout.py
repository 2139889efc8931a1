"""Checkout on the hosted page: what is due, promotion codes, paying, and what follows later."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe import timers
from sandbox.stripe.billing import amounts, collection, discounts, methods, payments
from sandbox.stripe.billing import customers as people
from sandbox.stripe.billing import subscriptions as starting
from sandbox.stripe.billing.methods import TEST_METHODS
from sandbox.stripe.errors import CardDeclined, InvalidRequest

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

PLACEHOLDER = "{CHECKOUT_SESSION_ID}"


def trial_days(session: Json) -> int:
    days: int = session["_subscription_data"].get("trial_period_days") or 0
    return days


def add_up(world: "World", session: Json) -> None:
    """What is due today: nothing on trial, and less with a coupon."""
    subtotal = 0
    for line in session["_line_items"]:
        price = world.get("price", line["price"])
        full = amounts.total(price, line["quantity"] or 0)
        if (price["recurring"] or {}).get("usage_type") == "metered":
            full = 0
        if price["recurring"] and (trial_days(session) or _trial_end(session)):
            full = 0
        line.update(amount_subtotal=full, amount_total=full, amount_discount=0)
        subtotal += full
    off = 0
    for entry in session["_discounts"]:
        coupon = _coupon(world, entry)
        off += discounts.taken_off(coupon, subtotal - off, session["currency"])
    session["amount_subtotal"], session["amount_total"] = subtotal, subtotal - off
    session["total_details"] = {**session["total_details"], "amount_discount": off}
    session["discounts"] = [
        {"coupon": entry.get("coupon"), "promotion_code": entry.get("promotion_code")}
        for entry in session["_discounts"]
    ]


def _trial_end(session: Json) -> int | None:
    moment: int | None = session["_subscription_data"].get("trial_end")
    return moment


def _coupon(world: "World", entry: Json) -> Json:
    if entry.get("coupon"):
        return world.get("coupon", entry["coupon"])
    code = world.get("promotion_code", entry["promotion_code"])
    return world.get("coupon", code["promotion"]["coupon"])


def enter_code(world: "World", session: Json, text: str) -> bool:
    """A customer types a promotion code on the page; an empty text takes it out again."""
    _only_open(session)
    code = discounts.find_active(world, text) if text.strip() else None
    if text.strip() and code is None:
        return False
    world.edit(session)["_discounts"] = [{"promotion_code": code["id"]}] if code else []
    add_up(world, session)
    return True


def expire(world: "World", session: Json) -> None:
    world.edit(session).update(status="expired", url=None)
    world.emit("checkout.session.expired", session)


def _only_open(session: Json) -> None:
    if session["status"] != "open":
        raise InvalidRequest(f"This Checkout Session is {session['status']}.")


def complete(
    world: "World",
    session: Json,
    *,
    method: str = "pm_card_visa",
    email: str | None = None,
    name: str | None = None,
    passed: bool = False,
) -> Json:
    """The customer presses Pay with a named test method.

    Raises CardDeclined when the bank refuses or, for a card that needs 3-D Secure, when it has not
    been `passed` yet. The session then stays open.
    """
    _only_open(session)
    with world.events_in_order(starting.CREATION_ORDER):
        world.edit(session)
        paying = None
        if needs_method(session):
            paying = methods.create(world, TEST_METHODS[method])
            _first_try(world, session, paying, passed)
        customer = _customer(world, session, email, name)
        if session["mode"] == "subscription":
            _subscribe(world, session, customer, paying, passed)
        elif paying and session["mode"] == "setup":
            _save_method(world, session, customer, paying)
        elif paying and session["amount_total"]:
            _pay_once(world, session, customer, paying, passed)
        else:
            session["payment_status"] = "no_payment_required"
        session["customer_details"] = {
            "address": customer["address"],
            "business_name": None,
            "email": customer["email"],
            "individual_name": None,
            "name": customer["name"],
            "phone": customer["phone"],
            "tax_exempt": "none",
            "tax_ids": [],
        }
        session.update(status="complete", url=None)
        world.state.reindex(session)
        world.emit("checkout.session.completed", session)
    return session


def needs_method(session: Json) -> bool:
    """False for a trial or a free plan that asks for a payment method only when it is needed."""
    return bool(
        session["mode"] == "setup"
        or session["amount_total"]
        or session["payment_method_collection"] != "if_required"
    )


def _customer(world: "World", session: Json, email: str | None, name: str | None) -> Json:
    if session["customer"]:
        held = people.present(world, session["customer"])
        world.follow(held)
        return held
    given = {"email": email or session["customer_email"] or "customer@example.com"}
    made = people.make(world, {**given, **({"name": name} if name else {})})
    session["customer"] = made["id"]
    world.state.reindex(session)
    return made


def _first_try(world: "World", session: Json, paying: Json, passed: bool) -> None:
    """Refuse what the bank refuses before anything is made: no subscription without payment."""
    customer = world.find("customer", session["customer"])
    world.follow(customer)
    if session["mode"] == "setup" or not session["amount_total"]:
        if paying["_behaviour"] in methods.DECLINES:
            raise methods.declined(paying["_behaviour"])
        return
    forced = customer is not None and world.failures_left(customer["id"]) > 0
    refused = forced or paying["_behaviour"] in (*methods.DECLINES, methods.ATTACHES_ONLY)
    if refused:
        intent = payments.new_intent(world, customer, session["amount_total"], session["currency"])
        outcome = payments.attempt(world, intent, customer, paying)
        raise methods.declined(outcome.decline_code)
    if paying["_behaviour"] == methods.NEEDS_ACTION and not passed:
        raise CardDeclined("Your bank asks for authentication.", code="authentication_required")


def _save_method(world: "World", session: Json, customer: Json, paying: Json) -> None:
    methods.attach(world, paying, customer)
    intent = world.new(
        "setup_intent", customer=customer["id"], payment_method=paying["id"], status="succeeded"
    )
    intent["client_secret"] = f"{intent['id']}_secret_{world.ids.text(25)}"
    session["setup_intent"] = intent["id"]
    world.emit("setup_intent.created", intent)
    world.emit("setup_intent.succeeded", intent)


def _pay_once(world: "World", session: Json, customer: Json, paying: Json, passed: bool) -> None:
    intent = payments.new_intent(world, customer, session["amount_total"], session["currency"])
    session["payment_intent"] = intent["id"]
    outcome = payments.attempt(world, intent, customer, paying, passed=passed)
    session["payment_status"] = "paid" if outcome.kind == payments.SUCCEEDED else "unpaid"


def _subscribe(
    world: "World", session: Json, customer: Json, paying: Json | None, passed: bool
) -> None:
    if paying:
        methods.attach(world, paying, customer)
    data = session["_subscription_data"]
    wanted = [
        {"price": line["price"], "quantity": line["quantity"]}
        for line in session["_line_items"]
        if world.get("price", line["price"])["recurring"]
    ]
    copied = ("billing_cycle_anchor", "billing_mode", "description", "metadata",
              "trial_end", "trial_period_days", "trial_settings")  # fmt: skip
    sub = starting.start(
        world,
        customer,
        {
            "items": wanted,
            "discounts": session["_discounts"],
            "default_payment_method": paying["id"] if paying else None,
            "automatic_tax": {"enabled": session["automatic_tax"]["enabled"]},
            **{name: data[name] for name in copied if data.get(name) is not None},
        },
        method=paying,
        passed=passed,
        told_incomplete=session["_older"],
    )
    invoice = world.get("invoice", sub["latest_invoice"])
    session.update(subscription=sub["id"], invoice=invoice["id"])
    paid = invoice["status"] == "paid"
    session["payment_status"] = "paid" if paid else "unpaid"
    if session["amount_total"] == 0:
        session["payment_status"] = "no_payment_required"
    world.state.reindex(session)


def _bank_answered(world: "World", intent: Json, well: bool) -> None:
    """Tell what became of a session that was completed before the money came."""
    sessions = list(world.state.each("checkout.session", "payment_intent", intent["id"]))
    for payment in world.state.each("invoice_payment", "_intent", intent["id"]):
        sub = world.get("invoice", payment["invoice"])["_subscription"]
        sessions += world.state.each("checkout.session", "subscription", sub)
    for session in sessions:
        if session["payment_status"] != "unpaid":
            continue
        if well:
            world.edit(session)["payment_status"] = "paid"
        outcome = "succeeded" if well else "failed"
        world.emit(f"checkout.session.async_payment_{outcome}", session)


collection.TOLD_OF_BANK.append(_bank_answered)
timers.register(
    "checkout.session",
    lambda world, session: session["expires_at"] if session["status"] == "open" else None,
    expire,
    rank=4,
)

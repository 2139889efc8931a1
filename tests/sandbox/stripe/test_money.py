"""Checkout, coupons, bank debits, refunds, disputes, credit notes."""

from collections.abc import Callable

import pytest

from sandbox.stripe.billing import amounts
from sandbox.stripe.errors import CardDeclined, InvalidRequest
from tests.sandbox.stripe.conftest import Cast

DAY = 86_400
Told = Callable[[], list[str]]


# --- checkout


def test_checkout_makes_customer_subscription_and_invoice(cast: Cast, told: Told):
    session = cast.engine.create_checkout(
        cast.plus,
        client_reference_id="user-7",
        metadata={"a": "b"},
        subscription_data={"metadata": {"user": "7"}},
    )
    told()
    done = cast.engine.complete_checkout(session["id"], email="new@example.com")
    assert (done["status"], done["payment_status"], done["url"]) == ("complete", "paid", None)
    assert done["client_reference_id"] == "user-7"
    sub = cast.engine.object(done["subscription"])
    assert (sub["status"], sub["metadata"]) == ("active", {"user": "7"})
    assert cast.engine.object(done["customer"])["email"] == "new@example.com"
    assert cast.invoice(sub)["parent"]["subscription_details"]["subscription"] == sub["id"]
    heard = told()
    assert heard.index("customer.subscription.created") < heard.index("checkout.session.completed")
    assert "customer.subscription.updated" not in heard


def test_C14_before_basil_checkout_tells_of_an_incomplete_subscription_first(
    cast: Cast, told: Told
):
    cast.engine.world.behaviour.update({"api_version": "2025-02-24.acacia"})
    session = cast.engine.create_checkout(cast.plus)
    told()
    cast.engine.complete_checkout(session["id"])
    created = next(e for e in cast.engine.events() if e.type == "customer.subscription.created")
    assert created.as_json()["data"]["object"]["status"] == "incomplete"
    assert told()[-1] == "customer.subscription.updated"


def test_C14_declined_checkout_makes_no_subscription_and_stays_open(cast: Cast, told: Told):
    session = cast.engine.create_checkout(cast.plus, customer=cast.customer)
    told()
    with pytest.raises(CardDeclined):
        cast.engine.complete_checkout(session["id"], method="pm_card_chargeDeclined")
    assert cast.status(session) == "open"
    assert cast.engine.objects("subscription") == []
    assert told() == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    assert cast.engine.complete_checkout(session["id"])["payment_status"] == "paid"


def test_checkout_with_3d_secure_needs_it_passed(cast: Cast):
    session = cast.engine.create_checkout(cast.plus)
    card = "pm_card_threeDSecure2Required"
    with pytest.raises(CardDeclined) as refusal:
        cast.engine.complete_checkout(session["id"], method=card)
    assert refusal.value.code == "authentication_required"
    done = cast.engine.complete_checkout(session["id"], method=card, passed=True)
    assert done["payment_status"] == "paid"


def test_C05_open_checkout_expires_after_a_day(cast: Cast, told: Told):
    session = cast.engine.create_checkout(cast.plus)
    told()
    cast.engine.advance(days=1)
    assert cast.status(session) == "expired"
    assert told() == ["checkout.session.expired"]
    with pytest.raises(InvalidRequest, match="expired"):
        cast.engine.complete_checkout(session["id"])


def test_C13_trial_checkout_needs_no_payment(cast: Cast):
    session = cast.engine.create_checkout(cast.plus, subscription_data={"trial_period_days": 7})
    done = cast.engine.complete_checkout(session["id"])
    assert done["payment_status"] == "no_payment_required"
    assert cast.status({"id": done["subscription"]}) == "trialing"


def test_B04_trial_checkout_may_do_without_a_payment_method(cast: Cast):
    session = cast.engine.create_checkout(
        cast.plus,
        subscription_data={
            "trial_period_days": 7,
            "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}},
        },
        payment_method_collection="if_required",
    )
    sub = cast.engine.complete_checkout(session["id"])["subscription"]
    assert cast.engine.object(sub)["default_payment_method"] is None
    cast.engine.advance(days=7)
    assert cast.engine.object(sub)["status"] == "canceled"


def test_C06_setup_and_payment_sessions_make_no_subscription(cast: Cast):
    once = cast.engine.create_price(unit_amount=700, interval=None)
    paid = cast.engine.create_checkout(once["id"], mode="payment", customer=cast.customer)
    done = cast.engine.complete_checkout(paid["id"])
    assert (done["subscription"], done["payment_status"]) == (None, "paid")
    assert cast.engine.object(done["payment_intent"])["amount_received"] == 700
    setup = cast.engine.request(
        "POST",
        "/v1/checkout/sessions",
        {"mode": "setup", "currency": "usd", "success_url": "https://x", "customer": cast.customer},
    )
    done = cast.engine.complete_checkout(setup["id"])
    assert done["setup_intent"].startswith("seti_")
    assert cast.engine.objects("subscription") == []


# --- bank debits


def test_C03_debit_is_active_at_stripe_before_the_money_is_there(cast: Cast, told: Told):
    session = cast.engine.create_checkout(cast.plus, customer=cast.customer)
    done = cast.engine.complete_checkout(session["id"], method="pm_usBankAccount_success")
    sub = cast.engine.object(done["subscription"])
    assert (done["payment_status"], sub["status"]) == ("unpaid", "active")
    assert cast.invoice(sub)["status"] == "open"
    told()
    cast.engine.advance(days=3)
    assert cast.again(session)["payment_status"] == "paid"
    assert cast.invoice(sub)["status"] == "paid"
    assert told()[-1] == "checkout.session.async_payment_succeeded"


def test_C04_returned_debit_is_told_and_makes_it_past_due(cast: Cast, told: Told):
    session = cast.engine.create_checkout(cast.plus, customer=cast.customer)
    done = cast.engine.complete_checkout(session["id"], method="pm_usBankAccount_insufficientFunds")
    told()
    cast.engine.advance(days=3)
    assert cast.status({"id": done["subscription"]}) == "past_due"
    heard = told()
    assert "invoice.payment_failed" in heard
    assert heard[-1] == "checkout.session.async_payment_failed"


def test_debit_may_leave_the_subscription_incomplete_if_the_account_says_so(cast: Cast):
    cast.engine.world.behaviour.update({"delayed_status": "incomplete"})
    session = cast.engine.create_checkout(cast.plus, customer=cast.customer)
    done = cast.engine.complete_checkout(session["id"], method="pm_usBankAccount_success")
    cast.engine.advance(days=2)  # beyond the 23 hours of others
    assert cast.status({"id": done["subscription"]}) == "incomplete"
    cast.engine.advance(days=1)
    assert cast.status({"id": done["subscription"]}) == "active"


# --- coupons


def coupon(cast: Cast, **params) -> str:
    id: str = cast.engine.request("POST", "/v1/coupons", params)["id"]
    return id


def test_B30_full_coupon_makes_a_zero_invoice_and_the_price_returns(cast: Cast):
    free = coupon(cast, percent_off=100, duration="repeating", duration_in_months=2)
    sub = cast.subscribe(discounts=[{"coupon": free}])
    totals = [cast.invoice(sub)["total"]]
    for _ in range(2):
        cast.engine.advance_past_renewal(sub["id"])
        totals.append(cast.invoice(sub)["total"])
    assert totals == [0, 0, 2000]
    assert cast.status(sub) == "active"
    assert cast.again(sub)["discounts"] != []


def test_coupon_for_once_is_gone_after_the_first_invoice(cast: Cast, told: Told):
    half = coupon(cast, percent_off=50, duration="once")
    told()
    sub = cast.subscribe(discounts=[{"coupon": half}])
    assert cast.invoice(sub)["total"] == 1000
    cast.engine.advance_past_renewal(sub["id"])
    assert cast.invoice(sub)["total"] == 2000
    assert "customer.discount.created" in told()


def test_promotion_code_is_redeemed_as_often_as_it_may_be(cast: Cast):
    off = coupon(cast, amount_off=500, currency="usd", duration="forever")
    code = cast.engine.request(
        "POST",
        "/v1/promotion_codes",
        {"promotion": {"type": "coupon", "coupon": off}, "code": "FIVE", "max_redemptions": 1},
    )
    sub = cast.subscribe(discounts=[{"promotion_code": code["id"]}])
    assert cast.invoice(sub)["total"] == 1500
    assert cast.engine.object(code["id"])["active"] is False
    with pytest.raises(InvalidRequest):
        cast.subscribe(discounts=[{"promotion_code": code["id"]}])


def test_fixed_discount_never_exceeds_the_invoice(cast: Cast):
    off = coupon(cast, amount_off=9000, currency="usd", duration="forever")
    sub = cast.subscribe(discounts=[{"coupon": off}])
    assert cast.invoice(sub)["total"] == 0
    assert cast.invoice(sub)["total_discount_amounts"][0]["amount"] == 2000


# --- money back


def charge(cast: Cast) -> str:
    return cast.engine.charge_of(cast.subscribe()["latest_invoice"])


def test_V09_partial_and_full_refunds_add_up(cast: Cast, told: Told):
    paid = charge(cast)
    told()
    cast.engine.refund(paid, amount=500)
    assert cast.engine.object(paid)["amount_refunded"] == 500
    assert cast.engine.object(paid)["refunded"] is False
    cast.engine.refund(paid)
    assert cast.engine.object(paid)["refunded"] is True
    assert told() == ["charge.refunded", "refund.created"] * 2
    with pytest.raises(InvalidRequest) as refusal:
        cast.engine.refund(paid)
    assert refusal.value.code == "charge_already_refunded"


def test_V09_pending_refund_may_fail(cast: Cast, told: Told):
    paid = charge(cast)
    made = cast.engine.refund(paid, status="pending")
    told()
    cast.engine.finish_refund(made["id"], well=False)
    assert cast.engine.object(paid)["amount_refunded"] == 0
    assert told() == ["charge.refund.updated", "refund.updated", "refund.failed"]


def test_V12_dispute_takes_the_money_and_winning_brings_it_back(cast: Cast, told: Told):
    paid = charge(cast)
    told()
    dispute = cast.engine.dispute(paid)
    assert told() == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    cast.engine.move_dispute(dispute["id"], "under_review")
    cast.engine.move_dispute(dispute["id"], "won")
    assert told() == [
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
    ]


def test_V12_inquiry_moves_no_money_until_it_becomes_a_dispute(cast: Cast, told: Told):
    paid = charge(cast)
    told()
    inquiry = cast.engine.dispute(paid, status="warning_needs_response")
    assert told() == ["charge.dispute.created"]
    cast.engine.move_dispute(inquiry["id"], "needs_response")
    assert told() == ["charge.dispute.updated", "charge.dispute.funds_withdrawn"]


def test_V13_early_fraud_warning_names_the_charge(cast: Cast, told: Told):
    paid = charge(cast)
    told()
    assert cast.engine.early_fraud_warning(paid)["charge"] == paid
    assert told() == ["radar.early_fraud_warning.created"]


def test_V14_credit_note_of_a_paid_invoice_becomes_credit(cast: Cast):
    sub = cast.subscribe()
    note = cast.engine.request(
        "POST", "/v1/credit_notes", {"invoice": sub["latest_invoice"], "amount": 700}
    )
    assert (note["type"], note["post_payment_amount"]) == ("post_payment", 700)
    assert cast.engine.object(cast.customer)["balance"] == -700


def test_V17_fee_is_booked_and_the_money_pending_for_two_days(cast: Cast):
    entry_id = cast.engine.object(charge(cast))["balance_transaction"]
    entry = cast.engine.object(entry_id)
    assert (entry["fee"], entry["net"], entry["status"]) == (88, 1912, "pending")
    cast.engine.advance(days=2)
    assert cast.engine.object(entry_id)["status"] == "available"


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (2000, "usd", "$20.00"),
        (-150, "eur", "-€1.50"),
        (500, "jpy", "¥500"),
        (5, "chf", "CHF 0.05"),
    ],
)
def test_V15_amounts_are_written_as_their_currency_wants(amount: int, currency: str, shown: str):
    assert amounts.money(amount, currency) == shown

"""How subscriptions begin, change and end."""

from collections.abc import Callable

import pytest

from sandbox.stripe.errors import CardDeclined, InvalidRequest, Missing
from tests.sandbox.stripe.conftest import Cast

DAY = 86_400
Told = Callable[[], list[str]]


def test_first_payment_makes_it_active(cast: Cast, told: Told):
    sub = cast.subscribe()
    assert sub["status"] == "active"
    assert cast.invoice(sub)["status"] == "paid"
    assert cast.invoice(sub)["billing_reason"] == "subscription_create"
    heard = told()
    for type in ("customer.subscription.created", "invoice.paid", "invoice_payment.paid"):
        assert heard.count(type) == 1
    assert "customer.subscription.updated" not in heard


def test_period_is_on_the_item_and_not_on_the_subscription(cast: Cast):
    sub = cast.subscribe()
    item = sub["items"]["data"][0]
    assert item["current_period_start"] == cast.engine.now()
    assert item["current_period_end"] - item["current_period_start"] == 31 * DAY
    assert "current_period_end" not in sub


def test_declined_first_payment_leaves_it_incomplete(cast: Cast):
    cast.engine.fail_payments(cast.customer)
    sub = cast.subscribe()
    assert sub["status"] == "incomplete"
    assert cast.invoice(sub)["status"] == "open"


def test_B05_incomplete_becomes_active_when_its_invoice_is_paid(cast: Cast, told: Told):
    cast.engine.fail_payments(cast.customer)
    sub = cast.subscribe()
    told()
    cast.engine.pay_invoice(sub["latest_invoice"])
    assert cast.status(sub) == "active"
    assert told()[-1] == "customer.subscription.updated"


def test_B06_incomplete_expires_after_23_hours_and_its_invoice_is_void(cast: Cast):
    cast.engine.fail_payments(cast.customer)
    sub = cast.subscribe()
    cast.engine.advance(23 * 3600 - 1)
    assert cast.status(sub) == "incomplete"
    cast.engine.advance(1)
    assert cast.status(sub) == "incomplete_expired"
    assert cast.invoice(sub)["status"] == "void"


def test_error_if_incomplete_makes_nothing_but_uses_up_the_ordered_failure(cast: Cast, told: Told):
    cast.engine.fail_payments(cast.customer)
    with pytest.raises(CardDeclined):
        cast.subscribe(payment_behavior="error_if_incomplete")
    assert cast.engine.objects("subscription") == []
    assert told() == []
    assert cast.subscribe(payment_behavior="error_if_incomplete")["status"] == "active"


def test_default_incomplete_waits_for_the_payer(cast: Cast):
    sub = cast.subscribe(payment_behavior="default_incomplete")
    assert sub["status"] == "incomplete"
    payment = cast.engine.objects("invoice_payment")[-1]["payment"]
    cast.engine.request(
        "POST",
        f"/v1/payment_intents/{payment['payment_intent']}/confirm",
        {"payment_method": "pm_card_visa"},
    )
    assert cast.status(sub) == "active"


def test_without_any_payment_method_it_is_refused(cast: Cast):
    poor = cast.engine.create_customer(method=None)
    with pytest.raises(InvalidRequest) as refusal:
        cast.engine.subscribe(poor["id"], cast.plus)
    assert refusal.value.code == "resource_missing"
    assert cast.engine.objects("subscription") == []


def test_B12_3d_secure_is_asked_for_and_passed(cast: Cast, told: Told):
    cast.engine.use_method(cast.customer, "pm_card_threeDSecure2Required")
    sub = cast.subscribe()
    assert sub["status"] == "incomplete"
    assert "invoice.payment_action_required" in told()
    intent = cast.engine.objects("payment_intent")[-1]
    assert intent["status"] == "requires_action"
    cast.engine.request("POST", f"/v1/payment_intents/{intent['id']}/confirm")
    assert cast.status(sub) == "active"


@pytest.mark.parametrize(
    ("price", "message"),
    [("price_nope", "No such price: 'price_nope'"), ("archived", "inactive"), ("once", "one_time")],
)
def test_price_must_exist_be_active_and_recur(cast: Cast, price: str, message: str):
    if price == "archived":
        price = cast.engine.create_price(unit_amount=1)["id"]
        cast.engine.archive_price(price)
    elif price == "once":
        price = cast.engine.create_price(unit_amount=1, interval=None)["id"]
    with pytest.raises((InvalidRequest, Missing), match=message):
        cast.subscribe(price)


# --- ending


def test_canceled_now_ends_now(cast: Cast, told: Told):
    sub = cast.subscribe()
    told()
    ended = cast.engine.cancel(sub["id"])
    assert ended["status"] == "canceled"
    assert ended["ended_at"] == ended["canceled_at"] == cast.engine.now()
    assert ended["cancellation_details"]["reason"] == "cancellation_requested"
    assert told() == ["customer.subscription.deleted"]
    with pytest.raises(InvalidRequest):
        cast.engine.cancel(sub["id"])


def test_B13_canceled_at_the_period_end_lasts_until_then(cast: Cast, told: Told):
    sub = cast.engine.cancel(cast.subscribe()["id"], at_period_end=True)
    end = sub["items"]["data"][0]["current_period_end"]
    assert (sub["cancel_at"], sub["canceled_at"]) == (end, cast.engine.now())
    told()
    cast.engine.advance_to(end - 1)
    assert cast.status(sub) == "active"
    cast.engine.advance(1)
    assert cast.status(sub) == "canceled"
    assert told() == ["customer.subscription.deleted"]
    assert len(cast.engine.objects("invoice")) == 1


def test_B13_planned_cancellation_can_be_taken_back(cast: Cast):
    sub = cast.engine.cancel(cast.subscribe()["id"], at_period_end=True)
    again = cast.engine.uncancel(sub["id"])
    assert (again["cancel_at"], again["canceled_at"]) == (None, None)
    assert again["cancellation_details"]["reason"] is None
    cast.engine.advance_past_renewal(sub["id"])
    assert cast.status(sub) == "active"


def test_B13_a_date_to_end_on_is_kept_to_and_can_be_cleared(cast: Cast):
    moment = cast.engine.now() + 10 * DAY
    sub = cast.engine.update_subscription(cast.subscribe()["id"], cancel_at=moment)
    assert (sub["cancel_at"], sub["cancel_at_period_end"]) == (moment, False)
    assert cast.engine.uncancel(sub["id"])["cancel_at"] is None
    cast.engine.update_subscription(sub["id"], cancel_at=moment)
    cast.engine.advance(days=10)
    assert cast.status(sub) == "canceled"


def test_ended_subscription_takes_only_metadata(cast: Cast):
    sub = cast.subscribe()
    cast.engine.cancel(sub["id"])
    assert cast.engine.update_subscription(sub["id"], metadata={"a": "b"})["metadata"] == {"a": "b"}
    with pytest.raises(InvalidRequest, match="canceled subscription"):
        cast.engine.change_price(sub["id"], cast.pro)


def test_C15_deleting_the_customer_ends_everything(cast: Cast, told: Told):
    sub = cast.subscribe()
    told()
    cast.engine.delete_customer(cast.customer)
    assert cast.status(sub) == "canceled"
    assert cast.engine.object(cast.customer) == {
        "id": cast.customer,
        "object": "customer",
        "deleted": True,
    }
    heard = told()
    assert heard[0] == "customer.subscription.deleted"
    assert heard[-1] == "customer.deleted"
    with pytest.raises(InvalidRequest, match="was deleted"):
        cast.subscribe()


# --- metadata


def test_metadata_merges_and_unsets(cast: Cast):
    sub = cast.subscribe(metadata={"a": "1", "b": "2"})
    changed = cast.engine.update_subscription(sub["id"], metadata={"b": None, "c": "3"})
    assert changed["metadata"] == {"a": "1", "c": "3"}
    assert cast.engine.update_subscription(sub["id"], metadata=None)["metadata"] == {}

"""What events say, in which order, and in which API version."""

import json
from collections.abc import Callable
from typing import get_args

import pytest
import stripe
from stripe.params import WebhookEndpointCreateParams

from sandbox.stripe.behaviour import ACACIA
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.events import previous_attributes
from tests.sandbox.stripe.conftest import Cast

Told = Callable[[], list[str]]


def last(cast: Cast, type: str):
    return next(e for e in reversed(cast.engine.events()) if e.type == type)


def test_every_type_is_one_that_stripe_sends(cast: Cast):
    known = str(get_args(WebhookEndpointCreateParams.__annotations__["enabled_events"]))
    sub = cast.subscribe(trial_period_days=4)
    cast.engine.advance(days=5)
    cast.engine.change_price(sub["id"], cast.pro, proration_behavior="always_invoice")
    cast.engine.pause(sub["id"])
    cast.engine.resume(sub["id"])
    cast.engine.fail_payments(cast.customer, 99)
    cast.engine.advance(days=60)
    cast.engine.delete_customer(cast.customer)
    types = {event.type for event in cast.engine.events()}
    assert len(types) > 25
    assert {type for type in types if f"'{type}'" not in known} == set()


def test_event_keeps_what_was_true_then(cast: Cast):
    sub = cast.subscribe()
    created = last(cast, "customer.subscription.created")
    cast.engine.cancel(sub["id"])
    assert created.as_json()["data"]["object"]["status"] == "active"


def test_update_tells_old_values_of_what_changed_only(cast: Cast):
    sub = cast.subscribe(metadata={"a": "1"})
    cast.engine.update_subscription(sub["id"], metadata={"a": "2", "b": "3"}, description="x")
    event = last(cast, "customer.subscription.updated").as_json()
    assert event["data"]["previous_attributes"] == {
        "description": None,
        "metadata": {"a": "1", "b": None},
    }


def test_price_change_tells_the_old_items(cast: Cast):
    sub = cast.subscribe()
    cast.engine.change_price(sub["id"], cast.pro)
    previous = last(cast, "customer.subscription.updated").as_json()["data"]["previous_attributes"]
    assert previous["items"]["data"][0]["price"]["id"] == cast.plus


def test_update_that_changes_nothing_is_not_told(cast: Cast, told: Told):
    sub = cast.subscribe(metadata={"a": "1"})
    told()
    cast.engine.update_subscription(sub["id"], metadata={"a": "1"})
    assert told() == []


def test_refused_call_tells_nothing(cast: Cast, told: Told):
    sub = cast.subscribe()
    told()
    with pytest.raises(Exception, match="No such price"):
        cast.engine.update_subscription(
            sub["id"], metadata={"x": "y"}, items=[{"price": "price_nope"}]
        )
    assert told() == []
    assert cast.again(sub)["metadata"] == {}


def test_events_are_numbered_without_gaps(cast: Cast):
    cast.subscribe()
    numbers = [event.seq for event in cast.engine.events()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert cast.engine.events(after=numbers[-2])[0].seq == numbers[-1]
    assert cast.engine.events(after=numbers[-1]) == []


def test_same_seed_gives_the_same_history():
    def history() -> list[bytes]:
        engine = StripeEngine(seed=42)
        price = engine.create_price(unit_amount=100)
        sub = engine.subscribe(engine.create_customer()["id"], price["id"])
        engine.advance(days=40)
        engine.cancel(sub["id"])
        return [engine.event_payload(event) for event in engine.events()]

    assert history() == history()


def test_difference_of_nested_hashes():
    before = {"a": {"x": 1, "y": 2}, "b": [1], "c": None, "d": 1}
    after = {"a": {"x": 1, "y": 3, "z": 4}, "b": [2], "c": {"k": 1}, "d": 1}
    assert previous_attributes(before, after) == {"a": {"y": 2, "z": None}, "b": [1], "c": None}


def test_signature_is_one_the_library_accepts(cast: Cast):
    cast.subscribe()
    body = cast.engine.event_payload(cast.engine.events()[-1])
    header = cast.engine.signed(body, "whsec_x")
    event = stripe.Webhook.construct_event(body, header, "whsec_x")
    assert event.id == cast.engine.events()[-1].id
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, header, "whsec_other")


def test_event_of_any_kind_can_be_injected(cast: Cast):
    event = cast.engine.inject("moon.phase_changed", {"object": "moon", "id": "moon_1"})
    assert json.loads(cast.engine.event_payload(event))["data"]["object"]["id"] == "moon_1"


# --- older versions


def payload(cast: Cast, type: str, version: str):
    return json.loads(cast.engine.event_payload(last(cast, type), version))


def test_acacia_has_the_period_on_the_subscription_and_on_the_item(cast: Cast):
    cast.subscribe()
    event = payload(cast, "customer.subscription.created", ACACIA)
    assert event["api_version"] == ACACIA
    sub = event["data"]["object"]
    item = sub["items"]["data"][0]
    assert sub["current_period_end"] == item["current_period_end"] > sub["current_period_start"]
    assert sub["plan"]["id"] == cast.plus
    assert sub["quantity"] == 1


def test_acacia_tells_the_old_period_on_top(cast: Cast):
    sub = cast.subscribe()
    end = sub["items"]["data"][0]["current_period_end"]
    cast.engine.advance_to(end)
    previous = payload(cast, "customer.subscription.updated", ACACIA)["data"]["previous_attributes"]
    assert previous["current_period_end"] == end
    assert previous["current_period_start"] == sub["start_date"]


def test_V03_V04_acacia_names_subscription_payment_and_price_where_they_used_to_be(cast: Cast):
    sub = cast.subscribe()
    invoice = payload(cast, "invoice.paid", ACACIA)["data"]["object"]
    assert invoice["subscription"] == sub["id"]
    assert invoice["paid"] is True
    assert invoice["payment_intent"].startswith("pi_")
    assert invoice["charge"] == cast.engine.charge_of(invoice["id"])
    assert "parent" not in invoice
    line = invoice["lines"]["data"][0]
    assert line["price"]["id"] == cast.plus
    assert (line["type"], line["proration"], line["subscription"]) == (
        "subscription",
        False,
        sub["id"],
    )


def test_V11_acacia_charge_names_its_invoice(cast: Cast):
    sub = cast.subscribe()
    charge = payload(cast, "charge.succeeded", ACACIA)["data"]["object"]
    assert charge["invoice"] == sub["latest_invoice"]
    assert "invoice" not in payload(cast, "charge.succeeded", "2026-10-28.endive")["data"]["object"]


def test_discount_names_its_coupon_where_the_version_has_it(cast: Cast):
    cast.engine.request(
        "POST", "/v1/coupons", {"id": "TEN", "percent_off": 10, "duration": "forever"}
    )
    cast.subscribe(discounts=[{"coupon": "TEN"}])
    type = "customer.discount.created"
    now = payload(cast, type, "2026-10-28.endive")["data"]["object"]
    assert now["source"] == {"coupon": "TEN", "type": "coupon"}
    then = payload(cast, type, "2025-08-27.basil")["data"]["object"]
    assert then["coupon"]["percent_off"] == 10
    assert "source" not in then

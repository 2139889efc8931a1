"""Every field that the official client declares is there: nothing the product reads is missing."""

import pytest

from sandbox.stripe.build_shapes import CONDITIONAL, annotations_of
from tests.sandbox.stripe.conftest import Cast

KINDS = (
    "charge", "checkout.session", "coupon", "customer", "discount", "dispute", "invoice",
    "invoice_payment", "invoiceitem", "payment_intent", "price", "product", "promotion_code",
    "refund", "subscription", "subscription_schedule", "webhook_endpoint", "balance_transaction",
    "billing_portal.configuration", "billing_portal.session", "credit_note",
    "radar.early_fraud_warning", "billing.meter", "setup_intent",
)  # fmt: skip


@pytest.fixture
def full(cast: Cast) -> Cast:
    """An account in which one of everything exists."""
    engine = cast.engine
    post = engine.request
    post("POST", "/v1/coupons", {"id": "C", "percent_off": 10, "duration": "forever"})
    post("POST", "/v1/promotion_codes", {"promotion": {"type": "coupon", "coupon": "C"}})
    sub = cast.subscribe(discounts=[{"coupon": "C"}])
    engine.advance(days=3)
    engine.change_price(sub["id"], cast.pro)
    paid = engine.charge_of(sub["latest_invoice"])
    engine.refund(paid, amount=100)
    engine.dispute(paid)
    engine.early_fraud_warning(paid)
    post("POST", "/v1/credit_notes", {"invoice": sub["latest_invoice"], "amount": 1})
    post("POST", "/v1/subscription_schedules", {"from_subscription": sub["id"]})
    post("POST", "/v1/billing_portal/sessions", {"customer": cast.customer})
    post("POST", "/v1/webhook_endpoints", {"url": "http://x.test", "enabled_events": ["*"]})
    post(
        "POST",
        "/v1/billing/meters",
        {"display_name": "T", "event_name": "t", "default_aggregation": {"formula": "sum"}},
    )
    setup = {"mode": "setup", "currency": "usd", "success_url": "https://x"}
    session = post("POST", "/v1/checkout/sessions", {**setup, "customer": cast.customer})
    engine.complete_checkout(session["id"])
    return cast


@pytest.mark.parametrize("kind", KINDS)
def test_object_has_every_declared_field(full: Cast, kind: str):
    declared = set(annotations_of(kind))
    absent = CONDITIONAL["*"] | CONDITIONAL.get(kind, set())
    made = full.engine.objects(kind)
    assert made, f"the fixture makes no {kind}"
    for obj in made:
        assert declared - absent - set(obj) == set()
        assert not [name for name in obj if name.startswith("_")]


def test_nested_parts_have_theirs(full: Cast):
    sub = full.engine.objects("subscription")[0]
    item = sub["items"]["data"][0]
    assert set(annotations_of("subscription_item")) - {"deleted"} <= set(item)
    assert set(annotations_of("price")) - CONDITIONAL["price"] - {"deleted"} <= set(item["price"])
    assert set(annotations_of("plan")) - CONDITIONAL["plan"] - {"deleted"} <= set(item["plan"])
    line = full.engine.objects("invoice")[0]["lines"]["data"][0]
    assert set(annotations_of("line_item")) <= set(line)


def test_nothing_of_the_samples_themselves_is_left(full: Cast):
    for kind in KINDS:
        for obj in full.engine.objects(kind):
            assert "obj_123" not in str(obj)
            assert "1234567890" not in str(obj)

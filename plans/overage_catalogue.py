"""The meter and the metered price at Stripe by which overage is billed, made on first need."""

from typing import Any

from plans import stripe_client
from plans.models import OverageMeter, Subscription
from plans.stripe_client import Json
from plans.stripe_reading import price_ids

EVENT_NAME = "tesslate_overage_cents"
LOOKUP_KEY = "tesslate_overage_cents"


def ensure_meter() -> OverageMeter:
    """Ours if we know it, else the account's, else a new one. Raises StripeError.

    Repeating it after an interruption finds what was made.
    """
    known = OverageMeter.objects.filter(event_name=EVENT_NAME).first()
    if known is not None:
        return known
    stripe = stripe_client.connection()
    meter = next(
        (found for found in stripe.meters() if found.get("event_name") == EVENT_NAME), None
    ) or stripe.create_meter(
        idempotency_key=f"meter:{EVENT_NAME}",
        display_name="Usage beyond the plan, US cents",
        event_name=EVENT_NAME,
        default_aggregation={"formula": "sum"},
        customer_mapping={"type": "by_id", "event_payload_key": "stripe_customer_id"},
        value_settings={"event_payload_key": "value"},
    )
    price = stripe.price_by_lookup_key(LOOKUP_KEY) or stripe.create_price(
        idempotency_key=f"overage-price:{meter['id']}", **_price_fields(meter)
    )
    made, _ = OverageMeter.objects.get_or_create(
        event_name=EVENT_NAME,
        defaults={"stripe_meter_id": meter["id"], "stripe_price_id": price["id"]},
    )
    return made


def _price_fields(meter: Json) -> dict[str, Any]:
    return {
        "currency": "usd",
        "unit_amount": 1,
        "lookup_key": LOOKUP_KEY,
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter["id"]},
        "product_data": {"name": "Usage beyond the plan"},
    }


def ensure_item(subscription: Subscription) -> None:
    """Have the subscription bill what the meter counts. Raises StripeError."""
    meter = ensure_meter()
    stripe = stripe_client.connection()
    found = stripe.subscription(subscription.stripe_subscription_id)
    held = price_ids(found or {})
    if meter.stripe_price_id not in held:
        stripe.create_subscription_item(
            idempotency_key=(
                f"overage-item:{subscription.stripe_subscription_id}:{meter.stripe_price_id}"
                f":{len(held)}"
            ),
            subscription=subscription.stripe_subscription_id,
            price=meter.stripe_price_id,
        )

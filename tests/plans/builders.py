"""Objects as Stripe sends them, in the two shapes that we may meet, as plain dicts."""

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe
from django.conf import settings
from django.utils import timezone

Json = dict[str, Any]

_numbers = itertools.count(1)

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def later(**delta: float) -> datetime:
    return timezone.now() + timedelta(**delta)


def from_now(**delta: float) -> int:
    return seconds(later(**delta))


def new_id(prefix: str) -> str:
    return f"{prefix}_{next(_numbers):06d}"


def stripe_price(price_id: str = "price_plus", **changes: Any) -> Json:
    return {
        "id": price_id,
        "object": "price",
        "active": True,
        "currency": "usd",
        "lookup_key": None,
        "metadata": {},
        "product": "prod_1",
        "recurring": {"interval": "month", "interval_count": 1},
        "type": "recurring",
        "unit_amount": 1900,
        **changes,
    }


def stripe_item(price: Json | str = "price_plus", **changes: Any) -> Json:
    return {
        "id": new_id("si"),
        "object": "subscription_item",
        "price": stripe_price(price) if isinstance(price, str) else price,
        "quantity": 1,
        "current_period_start": seconds(NOW - timedelta(days=10)),
        "current_period_end": seconds(NOW + timedelta(days=20)),
        **changes,
    }


def stripe_subscription(
    *,
    status: str = "active",
    price: str = "price_plus",
    items: list[Json] | None = None,
    **changes: Any,
) -> Json:
    """In the shape from basil on: the period is on the item."""
    return {
        "id": changes.pop("id", None) or new_id("sub"),
        "object": "subscription",
        "status": status,
        "customer": changes.pop("customer", "cus_1"),
        "livemode": False,
        "created": seconds(NOW - timedelta(days=10)),
        "start_date": seconds(NOW - timedelta(days=10)),
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "ended_at": None,
        "trial_end": None,
        "collection_method": "charge_automatically",
        "pause_collection": None,
        "pending_update": None,
        "schedule": None,
        "latest_invoice": None,
        "metadata": {},
        "items": {"object": "list", "data": items or [stripe_item(price)], "has_more": False},
        **changes,
    }


def old_shape(subscription: Json) -> Json:
    """The same as acacia and earlier had it: the period on the subscription itself."""
    old = json.loads(json.dumps(subscription))
    for item in old["items"]["data"]:
        old["current_period_start"] = item.pop("current_period_start")
        old["current_period_end"] = item.pop("current_period_end")
    result: Json = old
    return result


def stripe_invoice(subscription_id: str | None = None, **changes: Any) -> Json:
    parent = None
    if subscription_id is not None:
        parent = {
            "type": "subscription_details",
            "subscription_details": {"subscription": subscription_id, "metadata": {}},
        }
    return {
        "id": changes.pop("id", None) or new_id("in"),
        "object": "invoice",
        "customer": "cus_1",
        "status": "open",
        "created": seconds(NOW),
        "billing_reason": "subscription_cycle",
        "collection_method": "charge_automatically",
        "amount_due": 1900,
        "status_transitions": {"finalized_at": seconds(NOW)},
        "parent": parent,
        **changes,
    }


def stripe_session(subscription_id: str | None = None, **changes: Any) -> Json:
    return {
        "id": changes.pop("id", None) or new_id("cs_test"),
        "object": "checkout.session",
        "mode": "subscription",
        "status": "complete",
        "payment_status": "paid",
        "customer": "cus_1",
        "client_reference_id": None,
        "subscription": subscription_id,
        "metadata": {},
        "livemode": False,
        **changes,
    }


def stripe_event(kind: str, about: Json, **changes: Any) -> Json:
    data: Json = {"object": about}
    if "previous_attributes" in changes:
        data["previous_attributes"] = changes.pop("previous_attributes")
    return {
        "id": changes.pop("id", None) or new_id("evt"),
        "object": "event",
        "api_version": settings.STRIPE_API_VERSION,
        "created": int(time.time()),
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
        "data": data,
        **changes,
    }


def signed(
    event: Any, *, secret: str | None = None, timestamp: int | None = None
) -> tuple[bytes, str]:
    """The exact bytes to post and the header that Stripe would send with them."""
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    header = stripe.WebhookSignature.generate_signature_header(
        body.decode("utf-8", "surrogateescape"),
        secret or settings.STRIPE_WEBHOOK_SECRETS[0],
        timestamp,
    )
    return body, header

"""A price list, and a Stripe account at the wire."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from plans import inbox
from plans.models import Plan, Price, StripeEvent
from plans.stripe_client import connected_to
from tests.factories import PlanFactory, PriceFactory
from tests.plans.builders import signed, stripe_event
from tests.plans.wire import Wire, stripe_over


@dataclass(frozen=True)
class Catalogue:
    free: Plan
    plus: Plan
    pro: Plan
    plus_price: Price
    pro_price: Price


@pytest.fixture
def plans(db: None) -> Catalogue:
    free = PlanFactory.create(code="free", name="Free", rank=0, is_default=True, budget_cents=100)
    plus = PlanFactory.create(code="plus", name="Plus", rank=10)
    pro = PlanFactory.create(code="pro", name="Pro", rank=20)
    return Catalogue(
        free=free,
        plus=plus,
        pro=pro,
        plus_price=PriceFactory.create(plan=plus, stripe_price_id="price_plus"),
        pro_price=PriceFactory.create(plan=pro, stripe_price_id="price_pro", unit_amount=9900),
    )


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    with connected_to(stripe_over(wire)):
        yield wire


@pytest.fixture
def deliver(client: Client) -> Callable[..., Any]:
    """Post an event as Stripe does; nothing is processed yet."""

    def post(event: Any, **how: Any) -> Any:
        body, header = signed(event, **how)
        return client.post(
            "/webhooks/stripe",
            data=body,
            content_type="application/json",
            headers={"Stripe-Signature": header},
        )

    return post


@pytest.fixture
def happen(deliver: Callable[..., Any]) -> Callable[..., StripeEvent]:
    """Deliver an event and process everything that is due."""

    def run(kind: str, about: dict[str, Any], **changes: Any) -> StripeEvent:
        event = stripe_event(kind, about, **changes)
        assert deliver(event).status_code == 200
        process_all()
        return StripeEvent.objects.get(event_id=event["id"])

    return run


def process_all(now: datetime | None = None) -> int:
    count = 0
    while inbox.process_next_event(now=now or timezone.now()):
        count += 1
        assert count < 1000, "the queue does not drain"
    return count

"""A price list, and a Stripe account at the wire."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from plans import webhooks
from plans.models import Customer, Plan, Price, StripeEvent
from plans.publishing import publish_plans
from plans.seeding import seed_plans
from plans.stripe_client import Stripe, connected_to
from sandbox.stripe.api import Api
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.inprocess import InProcessHTTPClient
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory, PlanFactory, PriceFactory
from tests.plans.builders import signed, stripe_event
from tests.plans.shop import Shop, process_all
from tests.plans.stage import FaultyClient, Stage
from tests.plans.wire import Wire, stripe_over

Deliver = Callable[..., Any]
Happen = Callable[..., StripeEvent]


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
def customer(user: User, plans: Catalogue) -> Customer:
    return CustomerFactory.create(user=user, stripe_customer_id="cus_1")


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    with connected_to(stripe_over(wire)):
        yield wire


@pytest.fixture
def deliver(client: Client) -> Deliver:
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
def happen(deliver: Deliver) -> Happen:
    """Deliver an event and process everything that is due."""

    def run(kind: str, about: dict[str, Any], **changes: Any) -> StripeEvent:
        event = stripe_event(kind, about, **changes)
        assert deliver(event).status_code == 200
        process_all()
        return StripeEvent.objects.get(event_id=event["id"])

    return run


@pytest.fixture
def shop(db: None) -> Iterator[Shop]:
    engine = StripeEngine(seed=1)
    engine.advance_to(int(timezone.now().timestamp()))
    shop = Shop(engine)
    client = InProcessHTTPClient(
        Api(engine.world, django_settings.STRIPE_SECRET_KEY),
        lambda method, path: shop.troubled(method, path) if shop.troubled else None,
    )
    with (
        connected_to(Stripe(http_client=client, retries=0)),
        mock.patch.object(timezone, "now", shop.now),
        mock.patch.object(webhooks, "wake"),
    ):
        seed_plans()
        publish_plans(apply=True, cause=Cause.system("test"), tell=lambda text: None)
        shop.skip_post()
        yield shop


@pytest.fixture
def stage(user: User) -> Iterator[Stage]:
    engine = StripeEngine(seed=5)
    engine.advance_to(int(timezone.now().timestamp()))
    client = FaultyClient(Api(engine.world, django_settings.STRIPE_SECRET_KEY))
    with connected_to(Stripe(http_client=client, retries=0)):
        client.stage = Stage(engine, user)
        yield client.stage


@pytest.fixture
def buyer(api: APIClient, user: User) -> APIClient:
    api.force_authenticate(user)
    return api

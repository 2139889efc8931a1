"""One account with two plans, monthly and yearly, and a customer whose card works."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox.stripe.engine import StripeEngine

Json = dict[str, Any]


@dataclass
class Cast:
    engine: StripeEngine
    plus: str
    pro: str
    pro_year: str
    customer: str

    def subscribe(self, price: str | None = None, **params: Any) -> Json:
        return self.engine.subscribe(self.customer, price or self.plus, **params)

    def again(self, obj: Json) -> Json:
        """The object as it is now."""
        return self.engine.object(obj["id"])

    def status(self, obj: Json) -> str:
        return str(self.again(obj)["status"])

    def invoice(self, sub: Json) -> Json:
        """The subscription's latest invoice."""
        return self.engine.object(self.again(sub)["latest_invoice"])


@pytest.fixture
def cast() -> Cast:
    engine = StripeEngine(seed=1)
    plus = engine.create_price(unit_amount=2000, product_name="Plus")
    pro = engine.create_price(unit_amount=5000, product_name="Pro")
    year = engine.create_price(unit_amount=50000, product=pro["product"], interval="year")
    customer = engine.create_customer(email="alice@example.com")
    return Cast(engine, plus["id"], pro["id"], year["id"], customer["id"])


@pytest.fixture
def told(cast: Cast) -> Callable[[], list[str]]:
    """The types of the events since it was last asked."""
    seen = [cast.engine.events()[-1].seq]

    def ask() -> list[str]:
        fresh = cast.engine.events(after=seen[0])
        if fresh:
            seen[0] = fresh[-1].seq
        return [event.type for event in fresh]

    return ask

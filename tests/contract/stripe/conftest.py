"""What the Stripe contract is held against.

The stand-in, unless STRIPE_CONTRACT_SECRET_KEY holds a test-mode key (sk_test_…): Stripe itself.
Only the official client is used. Time is moved with Stripe's test clocks, which both have. What is
made is deleted or archived afterwards. Tests that need what only the stand-in offers (somebody who
pays on the hosted page, deliveries) take the `sandbox` fixture and are skipped at Stripe.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import stripe

from sandbox.stripe.testing import RunningStripe, stripe_sandbox

VERSION = "2026-10-28.endive"
DAY = 86_400
PATIENCE_SECONDS = 60


@dataclass
class Target:
    client: stripe.StripeClient
    key: str
    url: str | None
    sandbox: RunningStripe | None
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    customers: list[str] = field(default_factory=list)
    clocks: list[str] = field(default_factory=list)
    prices: list[str] = field(default_factory=list)
    products: list[str] = field(default_factory=list)

    @property
    def v1(self) -> Any:
        """The client's services; untyped, as tests look at answers of many shapes."""
        return self.client.v1

    def product(self, name: str = "Plan", **params: Any) -> Any:
        made = self.v1.products.create({"name": f"{name} {self.run}", **params})
        self.products.append(made.id)
        return made

    def price(self, amount: int = 2000, interval: str | None = "month", **params: Any) -> Any:
        recurring = {"recurring": {"interval": interval}} if interval else {}
        owner = {} if "product" in params else {"product": self.product().id}
        made = self.v1.prices.create(
            {"unit_amount": amount, "currency": "usd", **recurring, **owner, **params}
        )
        self.prices.append(made.id)
        return made

    def customer(self, method: str | None = "pm_card_visa", **params: Any) -> Any:
        """Somebody whose default payment method is a named test card."""
        given = {"email": f"{secrets.token_hex(6)}@example.com", **params}
        if method:
            given |= {"payment_method": method}
        made = self.v1.customers.create(given)
        self.customers.append(made.id)
        if method:
            held = self.v1.customers.payment_methods.list(made.id).data[0].id
            self.v1.customers.update(
                made.id, {"invoice_settings": {"default_payment_method": held}}
            )
        return made

    def use_method(self, customer: str, method: str) -> str:
        attached = self.v1.payment_methods.attach(method, {"customer": customer})
        self.v1.customers.update(
            customer, {"invoice_settings": {"default_payment_method": attached.id}}
        )
        return str(attached.id)

    def subscribe(self, customer: str, price: str, **params: Any) -> Any:
        return self.v1.subscriptions.create(
            {"customer": customer, "items": [{"price": price}], **params}
        )

    def clock(self, frozen_time: int | None = None) -> str:
        moment = frozen_time or int(time.time())
        made = self.v1.test_helpers.test_clocks.create({"frozen_time": moment})
        self.clocks.append(made.id)
        return str(made.id)

    def advance(self, clock: str, moment: int) -> None:
        """Move a test clock and wait until everything has happened."""
        self.v1.test_helpers.test_clocks.advance(clock, {"frozen_time": moment})
        eventually(
            lambda: self.v1.test_helpers.test_clocks.retrieve(clock).status == "ready", pause=1.0
        )

    def clean_up(self) -> None:
        for clock in self.clocks:
            self.client.v1.test_helpers.test_clocks.delete(clock)
        for customer in self.customers:
            self._quietly(self.client.v1.customers.delete, customer)
        for price in self.prices:
            self._quietly(self.client.v1.prices.update, price, {"active": False})
        for product in self.products:
            self._quietly(self.client.v1.products.update, product, {"active": False})

    @staticmethod
    def _quietly(act: Callable[..., Any], *arguments: Any) -> None:
        """A test may have done it itself, or have made it undoable on purpose."""
        with contextlib.suppress(stripe.InvalidRequestError):
            act(*arguments)


def eventually(holds: Callable[[], Any], pause: float = 0.2) -> Any:
    """What `holds` gives once it gives something: Stripe's lists lag behind its writes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)
    return found


@pytest.fixture(scope="session")
def service() -> Iterator[Target]:
    key = os.environ.get("STRIPE_CONTRACT_SECRET_KEY")
    if key:
        if not key.startswith(("sk_test_", "rk_test_")):
            pytest.exit("STRIPE_CONTRACT_SECRET_KEY is no test-mode key", returncode=2)
        client = stripe.StripeClient(key, stripe_version=VERSION, max_network_retries=3)
        yield Target(client, key, None, None)
        return
    with stripe_sandbox(real_time=True) as running:
        client = running.client(stripe_version=VERSION)
        yield Target(client, running.secret_key, running.url, running)


@pytest.fixture
def target(service: Target) -> Iterator[Target]:
    fresh = Target(service.client, service.key, service.url, service.sandbox)
    yield fresh
    fresh.clean_up()


@pytest.fixture
def sandbox(service: Target) -> RunningStripe:
    if service.sandbox is None:
        pytest.skip("needs what only the stand-in offers")
    return service.sandbox

"""A shop on the Stripe stand-in: prices, purchases, and the post between Stripe and us."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings as django_settings
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from plans import inbox, webhooks
from plans.models import Checkout, Price
from plans.selectors import current_entitlement
from sandbox.stripe.engine import StripeEngine


class Shop:
    """The stand-in with our price list published to it, and a post that may be switched off."""

    def __init__(self, engine: StripeEngine) -> None:
        self.engine = engine
        self.seen = 0
        self.troubled: Callable[[str, str], int | None] | None = None

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.engine.now(), UTC)

    def price(self, plan: str, interval: str = "month") -> str:
        found = Price.objects.get(plan__code=plan, interval=interval, archived_at=None)
        assert found.stripe_price_id is not None
        return found.stripe_price_id

    def post(self, *kinds: str) -> None:
        """Deliver what happened since the last post (only these kinds, if any) and process it."""
        for event in self.engine.events(after=self.seen):
            self.seen = event.seq
            if kinds and event.type not in kinds:
                continue
            self.deliver(self.engine.event_payload(event))
        process_all()

    def deliver(self, body: bytes) -> None:
        secret = django_settings.STRIPE_WEBHOOK_SECRETS[0]
        webhooks.receive(self.engine.signed(body, secret, int(time.time())), body)

    def skip_post(self) -> None:
        """What happened so far is never delivered."""
        for event in self.engine.events(after=self.seen):
            self.seen = event.seq

    def pay(self, url: str, **how: Any) -> dict[str, Any]:
        session = Checkout.objects.get(url=url).stripe_session_id
        assert session is not None
        return self.engine.complete_checkout(session, **how)


def buy(api: APIClient, price: str, **more: Any) -> Any:
    return api.post("/api/billing/checkout", {"price": price, **more}, format="json")


def plan_of(user: User) -> str:
    return current_entitlement(user).plan.code


def process_all(now: datetime | None = None) -> int:
    count = 0
    while inbox.process_next_event(now=now or timezone.now()):
        count += 1
        assert count < 1000, "the queue does not drain"
    return count

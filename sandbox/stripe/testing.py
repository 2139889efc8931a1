"""The stand-in for tests: served on a free port, in a thread, with a clock that the test moves."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import stripe

from sandbox import serving
from sandbox.stripe.app import app_for
from sandbox.stripe.clock import Clock, ManualClock
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.service import Service
from sandbox.stripe.settings import Settings

SECRET_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox"


@dataclass
class RunningStripe:
    url: str
    secret_key: str
    webhook_secret: str
    service: Service
    http: httpx.Client

    @property
    def engine(self) -> StripeEngine:
        """The engine behind the server; its methods may be called from the test's thread."""
        return self.service.engine

    def client(self, **options: Any) -> stripe.StripeClient:
        given = {"max_network_retries": 0, **options}
        return stripe.StripeClient(self.secret_key, base_addresses={"api": self.url}, **given)

    def control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A call of the control interface; raises httpx.HTTPStatusError."""
        answer = self.http.request(method, f"/sandbox/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def advance(self, seconds: float = 0, *, days: float = 0) -> None:
        self.service.move_clock(self.engine.now() + int(seconds + days * 86_400))

    def flush(self) -> Any:
        """Attempt all waiting deliveries; tells how many were taken."""
        return self.control("POST", "deliveries/flush")


@contextmanager
def stripe_sandbox(
    *,
    webhook_url: str | None = None,
    clock: Clock | None = None,
    data: Path | None = None,
    real_time: bool = False,
    prepare: Callable[[Service], None] | None = None,
    **settings: Any,
) -> Iterator[RunningStripe]:
    """Serve a stand-in for as long as the block lasts.

    The clock stands still (from 2026-01-01, or as given) unless `real_time`. `prepare` may change
    the service before it starts.
    """
    given = Settings(
        secret_key=SECRET_KEY,
        public_url="http://sandbox.invalid",
        webhook_url=webhook_url,
        webhook_secret=WEBHOOK_SECRET if webhook_url else None,
        data=data,
    )
    service = Service(
        replace(given, **settings),
        clock=clock or (None if real_time else ManualClock()),
    )
    if prepare:
        prepare(service)
    with serving.served(app_for(service)) as url:
        service.world.base_url = url
        guard = {"Authorization": f"Bearer {service.settings.secret_key}"}
        with httpx.Client(base_url=url, headers=guard, trust_env=False) as http:
            yield RunningStripe(url, service.settings.secret_key, WEBHOOK_SECRET, service, http)

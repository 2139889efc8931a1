"""Everything one running stand-in consists of, put together from its settings."""

import contextlib
import hashlib
import hmac

import orjson

from sandbox.stripe.api import Api
from sandbox.stripe.behaviour import Behaviour
from sandbox.stripe.clock import Clock, RunningClock
from sandbox.stripe.delivery.queue import DeliveryQueue
from sandbox.stripe.delivery.sender import Sender
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.resources.account import make_endpoint
from sandbox.stripe.settings import Settings
from sandbox.stripe.store import MemoryStore, Record, SQLiteStore
from sandbox.stripe.versions import checked

CONFIGURED = "The endpoint this stand-in was started with"


class Service:
    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        store = SQLiteStore(settings.data) if settings.data else MemoryStore()
        kept = {record.key: orjson.loads(record.body or b"0") for record in store.load("setting")}
        behaviour = Behaviour(api_version=settings.api_version)
        behaviour.update(kept.get("behaviour", {}))
        self.engine = StripeEngine(
            clock=clock or RunningClock(kept.get("clock_offset", 0.0)),
            store=store,
            behaviour=behaviour,
            base_url=settings.public_url,
        )
        self.world = self.engine.world
        self.api = Api(self.world, settings.secret_key)
        self.queue = DeliveryQueue(self.world, settings.retry_seconds)
        self.sender = Sender(self.queue)
        # Hosted control buttons carry this, so that no other page in the browser can press them.
        self.console_token = hmac.new(
            settings.secret_key.encode(), b"console", hashlib.sha256
        ).hexdigest()[:32]
        self._configure_endpoint()

    def _configure_endpoint(self) -> None:
        """The endpoint from the settings: made once, then kept as the settings say."""
        url, secret = self.settings.webhook_url, self.settings.webhook_secret
        state = self.world.state
        held = [
            state.objects[key]
            for key in state.of_kind("webhook_endpoint")
            if state.objects[key]["description"] == CONFIGURED
        ]
        with self.world.transaction():
            if not url:
                for endpoint in held:
                    state.remove(endpoint)
            elif held:
                self.world.edit(held[0]).update(url=url, _secret=secret)
            else:
                make_endpoint(
                    self.world,
                    secret=secret,
                    url=url,
                    enabled_events=["*"],
                    description=CONFIGURED,
                )

    def move_clock(self, moment: int) -> int:
        """Let everything until then happen. Gives the number of steps."""
        steps = self.engine.advance_to(moment)
        if isinstance(self.world.clock, RunningClock):
            self._keep("clock_offset", self.world.clock.offset)
        return steps

    def change_behaviour(self, changes: dict[str, object]) -> None:
        """Raises ValueError for an unknown setting, InvalidRequest for an unknown version."""
        if "api_version" in changes:
            checked(str(changes["api_version"]))
        self.world.behaviour.update(changes)
        self._keep("behaviour", self.world.behaviour.as_dict())

    def _keep(self, name: str, value: object) -> None:
        with self.world.lock:
            self.world.store.save([Record("setting", name, 0, orjson.dumps(value))])

    def reset(self) -> None:
        """As on the first start, save for the clock and the switches."""
        with self.world.lock:
            self.world.clear()
            self.api.answers.clear()
            self.queue.clear()
            self._configure_endpoint()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.world.store.close()

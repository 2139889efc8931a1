"""What is to be delivered, and what became of it. Plain data; sending is in `sender`.

Times here are real time, not the sandbox's clock: a receiver judges a signature's age by its own.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from sandbox.stripe.delivery.faults import DeliveryFaults
from sandbox.stripe.events import Event
from sandbox.stripe.store import Record

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

WAITING, SENDING, DELIVERED, DROPPED, GIVEN_UP = (
    "waiting", "sending", "delivered", "dropped", "given_up",
)  # fmt: skip
# Stripe tries for up to three days; so do we, at the last of the given intervals.
PATIENCE_SECONDS = 3 * 86_400
KEPT = 20_000


@dataclass(slots=True)
class Attempt:
    at: float
    milliseconds: float
    status: int | None
    error: str | None = None


@dataclass(slots=True)
class Delivery:
    id: int
    event: str
    type: str
    endpoint: str
    created: float
    due: float
    state: str = WAITING
    attempts: list[Attempt] = field(default_factory=list)

    def as_json(self) -> Json:
        return asdict(self)

    def record(self) -> Record:
        return Record("delivery", str(self.id), self.id, orjson.dumps(self))


class DeliveryQueue:
    def __init__(self, world: "World", retry_seconds: tuple[float, ...]) -> None:
        self.world = world
        self.retry_seconds = retry_seconds
        self.faults = DeliveryFaults()
        self.wake: Callable[[], None] = lambda: None
        self.waiting: dict[int, Delivery] = {}
        self.sending: dict[int, Delivery] = {}
        self.done: deque[Delivery] = deque(maxlen=KEPT)
        self._heap: list[tuple[float, int]] = []
        self._last = 0
        world.listeners.append(self.plan)
        self._load()

    # --- planning

    def plan(self, events: list[Event]) -> list[Record]:
        """Queue a commit's events for every endpoint that wants them."""
        made: list[Delivery] = []
        for event in events:
            endpoints = self._endpoints_for(event)
            event.pending_webhooks = len(endpoints)
            for endpoint in endpoints:
                made += self._queue(event, endpoint)
        if made:
            self.wake()
        return [delivery.record() for delivery in made]

    def _endpoints_for(self, event: Event) -> list[str]:
        state = self.world.state
        return [
            key
            for key in state.of_kind("webhook_endpoint")
            if state.objects[key]["status"] == "enabled"
            and not {"*", event.type}.isdisjoint(state.objects[key]["enabled_events"])
        ]

    def _queue(self, event: Event, endpoint: str) -> list[Delivery]:
        now = time.time()
        made = []
        dropped = self.faults.dropped()
        for _ in range(1 if dropped else self.faults.copies()):
            delivery = self._make(event, endpoint, now + self.faults.wait())
            made.append(delivery)
            if dropped:
                delivery.state = DROPPED
                self.done.append(delivery)
            else:
                self._put(delivery)
        return made

    def _make(self, event: Event, endpoint: str, due: float) -> Delivery:
        self._last += 1
        return Delivery(self._last, event.id, event.type, endpoint, time.time(), due)

    def _put(self, delivery: Delivery) -> None:
        self.waiting[delivery.id] = delivery
        heapq.heappush(self._heap, (delivery.due, delivery.id))

    def redeliver(self, event_id: str, endpoint: str | None = None) -> list[Delivery]:
        """Queue one event again, delivered or not, to one endpoint or all that want it."""
        with self.world.lock:
            event = self.world.log.find(event_id)
            if event is None:
                return []
            targets = [endpoint] if endpoint else self._endpoints_for(event)
            made = [self._make(event, target, time.time()) for target in targets]
            for delivery in made:
                self._put(delivery)
            self._save(*made)
        self.wake()
        return made

    # --- sending

    def next_due(self) -> float | None:
        if self.faults.paused:
            return None
        while self._heap and self._heap[0][1] not in self.waiting:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self) -> list[Delivery]:
        """Those whose moment has come; they count as being sent from here on."""
        taken = []
        with self.world.lock:
            now = time.time()
            while (due := self.next_due()) is not None and due <= now:
                taken.append(self._take(heapq.heappop(self._heap)[1]))
        return taken

    def take_all(self) -> list[Delivery]:
        """All that wait, whatever their moment and even when paused."""
        with self.world.lock:
            taken = [self._take(id) for id in sorted(self.waiting)]
            self._heap.clear()
        self.faults.shuffle(taken)
        return taken

    def _take(self, id: int) -> Delivery:
        delivery = self.waiting.pop(id)
        delivery.state = SENDING
        self.sending[id] = delivery
        return delivery

    def settle(self, delivery: Delivery, attempt: Attempt) -> None:
        """Note an attempt; plan the next if the receiver did not say 2xx."""
        with self.world.lock:
            self.sending.pop(delivery.id, None)
            delivery.attempts.append(attempt)
            if attempt.status is not None and 200 <= attempt.status < 300:
                delivery.state = DELIVERED
            elif time.time() - delivery.created > PATIENCE_SECONDS:
                delivery.state = GIVEN_UP
            if delivery.state != SENDING:
                self.done.append(delivery)
                self._save(delivery, also=self._counted_off(delivery))
                return
            waits = self.retry_seconds
            delivery.state = WAITING
            delivery.due = time.time() + waits[min(len(delivery.attempts), len(waits)) - 1]
            self._put(delivery)
            self._save(delivery)
        self.wake()

    def forget(self, delivery: Delivery) -> None:
        """Its endpoint is gone."""
        self.sending.pop(delivery.id, None)
        delivery.state = DROPPED
        self.done.append(delivery)
        self._save(delivery)

    def _counted_off(self, delivery: Delivery) -> list[Record]:
        event = self.world.log.find(delivery.event)
        if event is None or event.pending_webhooks == 0 or delivery.state != DELIVERED:
            return []
        event.pending_webhooks -= 1
        return [event.record()]

    # --- looking, keeping

    def log(self, *, event: str | None = None, limit: int = 200) -> list[Json]:
        """Newest first."""
        everything = [*self.done, *self.waiting.values(), *self.sending.values()]
        fitting = [d for d in everything if event is None or d.event == event]
        fitting.sort(key=lambda delivery: -delivery.id)
        return [delivery.as_json() for delivery in fitting[:limit]]

    def counts(self) -> dict[str, int]:
        counted = {WAITING: len(self.waiting), SENDING: len(self.sending)}
        counted |= {DELIVERED: 0, DROPPED: 0, GIVEN_UP: 0}
        for delivery in self.done:
            counted[delivery.state] = counted.get(delivery.state, 0) + 1
        return counted

    def clear(self) -> None:
        self.waiting.clear()
        self.sending.clear()
        self.done.clear()
        self._heap.clear()

    def _save(self, *deliveries: Delivery, also: Sequence[Record] = ()) -> None:
        if self.world.store.persistent:
            self.world.store.save([*(delivery.record() for delivery in deliveries), *also])

    def _load(self) -> None:
        for record in self.world.store.load("delivery"):
            saved = orjson.loads(record.body or b"{}")
            saved["attempts"] = [Attempt(**attempt) for attempt in saved["attempts"]]
            delivery = Delivery(**saved)
            self._last = max(self._last, delivery.id)
            if delivery.state in (WAITING, SENDING):
                delivery.state = WAITING  # its answer, if any, was lost with the process
                self._put(delivery)
            else:
                self.done.append(delivery)

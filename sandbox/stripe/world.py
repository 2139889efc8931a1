"""One Stripe account: its objects, clock and event log, and the transaction around a change."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from sandbox.stripe import timers
from sandbox.stripe.behaviour import Behaviour
from sandbox.stripe.clock import Clock
from sandbox.stripe.errors import ApiError, Missing
from sandbox.stripe.events import Event, EventLog, previous_attributes
from sandbox.stripe.ids import IdSource
from sandbox.stripe.rendering import render
from sandbox.stripe.shapes import blank
from sandbox.stripe.state import State, key_of
from sandbox.stripe.store import Record, Store

Json = dict[str, Any]

# An object at one moment must settle within this many steps, or the engine has a fault.
SETTLE_STEPS = 50


@dataclass(slots=True)
class Caller:
    """Who caused a change: an API request, or (without an id) Stripe itself or a hosted page."""

    id: str | None = None
    idempotency_key: str | None = None
    version: str | None = None


NOBODY = Caller()


class World:
    def __init__(
        self, *, clock: Clock, store: Store, behaviour: Behaviour, seed: int | None, base_url: str
    ) -> None:
        self.clock = clock
        self.store = store
        self.behaviour = behaviour
        self.base_url = base_url.rstrip("/")  # of the hosted pages
        self.ids = IdSource(seed)
        self.state = State()
        self.log = EventLog()
        self.lock = threading.RLock()
        self.caller = NOBODY
        # Told of each commit's events; what they give back is stored together with these.
        self.listeners: list[Callable[[list[Event]], list[Record]]] = []
        self._alarms = timers.Alarms()
        self._moment: int | None = None
        self._depth = 0
        self._fresh: list[Event] = []
        self._alongside: list[Record] = []
        self._failures: dict[str, int] = {}
        self.item_owners: dict[str, str] = {}  # subscription item → subscription
        self._load()

    # --- time

    def now(self) -> int:
        return self.clock.now() if self._moment is None else self._moment

    def follow(self, owner: Json | None) -> None:
        """For the rest of this transaction, live in the time of a customer's test clock."""
        clock_id = owner.get("test_clock") if owner else None
        if clock_id:
            self._moment = self.get("test_helpers.test_clock", clock_id)["frozen_time"]

    def next_due(self, lane: str = "") -> int | None:
        return self._alarms.next(lane)

    def run_due(self, until: int | None = None, lane: str = "") -> int:
        """Let everything happen that is due by `until`; gives the number of steps taken."""
        limit = self.clock.now() if until is None else until
        steps, repeats, last = 0, 0, (0, "")
        with self.lock:
            while (due := self._alarms.next(lane)) is not None and due <= limit:
                key = self._alarms.pop(lane)
                repeats = repeats + 1 if (due, key) == last else 0
                last = (due, key)
                if repeats > SETTLE_STEPS:
                    raise RuntimeError(f"{key} does not settle at {due}")
                self._fire(key, due)
                steps += 1
        return steps

    def _fire(self, key: str, due: int) -> None:
        obj = self.state.objects[key]
        caller, self.caller = self.caller, NOBODY  # nobody asked: it was time
        try:
            with self.transaction(moment=due):
                timers.TIMERS[obj["object"]].fire(self, obj)
        finally:
            self.caller = caller
        if key in self.state.objects:
            self._set_alarm(obj)

    def _set_alarm(self, obj: Json) -> None:
        timer = timers.TIMERS.get(obj["object"])
        if timer:
            due = timer.due(self, obj)
            key = key_of(obj["object"], obj["id"])
            self._alarms.set(key, self._lane(obj), due, timer.rank, obj["_seq"])

    def _lane(self, obj: Json) -> str:
        clock_id = obj.get("test_clock")
        if not clock_id and isinstance(obj.get("customer"), str):
            customer = self.state.objects.get(obj["customer"])
            clock_id = customer.get("test_clock") if customer else None
        return clock_id or ""

    # --- objects

    def get(self, kind: str, id: str, *, noun: str | None = None, param: str = "id") -> Json:
        """An object, or Stripe's 404. `noun` is how its message calls the kind."""
        found = self.state.find(kind, id)
        if found is None:
            raise Missing.thing(noun or kind.replace("_", " "), id, param)
        return found

    def find(self, kind: str, id: str | None) -> Json | None:
        return self.state.find(kind, id) if id else None

    def lookup(self, id: str) -> Json | None:
        """Whatever has this id, or None."""
        objects = self.state.objects
        return objects.get(id) or objects.get(f"product/{id}") or objects.get(f"coupon/{id}")

    def new(self, kind: str, *, id: str | None = None, **fields: Any) -> Json:
        obj = blank(kind)
        obj["id"] = id or self.ids.new(kind)
        if "created" in obj:
            obj["created"] = self.now()
        obj.update(fields)
        self.state.add(obj)
        return obj

    def edit(self, obj: Json) -> Json:
        return self.state.edit(obj)

    def public(self, obj: Json) -> Json:
        """A copy as the API shows it, safe to keep and to change."""
        copied: Json = orjson.loads(orjson.dumps(render(self, obj)))
        return copied

    # --- events

    def emit(self, type: str, obj: Json, *, before: Json | None = None) -> None:
        """Record an event about `obj` as it is now.

        With `before` (what `public` gave earlier) it is an update: the difference is recorded
        too, and nothing at all if there is none.
        """
        body = orjson.dumps(render(self, obj))
        previous = None
        if before is not None:
            changed = previous_attributes(before, orjson.loads(body))
            if not changed:
                return
            previous = orjson.dumps(changed)
        self.emit_raw(type, body, previous, subject=obj["id"])

    def emit_raw(
        self,
        type: str,
        body: bytes,
        previous: bytes | None = None,
        *,
        subject: str = "",
        api_version: str | None = None,
    ) -> None:
        self._fresh.append(
            Event(
                seq=0,
                id=self.ids.new("event"),
                type=type,
                subject=subject,
                created=self.now(),
                api_version=api_version or self.behaviour.api_version,
                object=body,
                previous=previous,
                request=self.caller.id,
                idempotency_key=self.caller.idempotency_key,
            )
        )

    @contextmanager
    def events_in_order(self, order: tuple[str, ...]) -> Iterator[None]:
        """Sort the events of the block by type; a type not named stays with its predecessor.

        Events about one object keep their order: the last of them shows it as it is now.
        """
        start = len(self._fresh)
        yield
        place = {type: index for index, type in enumerate(order)}
        ranked, rank = [], -1
        reached: dict[str, int] = {}
        for event in self._fresh[start:]:
            rank = max(place.get(event.type, rank), reached.get(event.subject, -1))
            reached[event.subject] = rank
            ranked.append((rank, event))
        self._fresh[start:] = [event for _, event in sorted(ranked, key=lambda pair: pair[0])]

    # --- ordered failures

    def fail_next(self, customer: str, times: int) -> None:
        """Let a customer's next `times` payments be declined, whatever they pay with."""
        with self.lock:
            self._failures[customer] = times
            self._save_failures()

    def failures_left(self, customer: str) -> int:
        return self._failures.get(customer, 0)

    def spend_failure(self, customer: str) -> bool:
        """Use one up. It stays used even if the attempt is undone, as a real decline would."""
        if self._failures.get(customer, 0) < 1:
            return False
        self._failures[customer] -= 1
        self._save_failures()
        return True

    def _save_failures(self) -> None:
        if self.store.persistent:
            self.store.save([Record("setting", "failures", 0, orjson.dumps(self._failures))])

    # --- transactions

    @contextmanager
    def transaction(self, *, moment: int | None = None) -> Iterator[None]:
        """All of the block or nothing, save for errors that keep their traces (a declined card).

        Events become visible, and are persisted, together with the objects they tell of.
        """
        with self.lock:
            outer = self._moment
            if moment is not None:
                self._moment = moment
            self._depth += 1
            try:
                yield
            except BaseException as error:
                if self._depth == 1:
                    if isinstance(error, ApiError) and error.keeps_changes:
                        self._commit()
                    else:
                        self.state.rollback()
                        self._fresh.clear()
                        self._alongside.clear()
                raise
            else:
                if self._depth == 1:
                    self._commit()
            finally:
                self._depth -= 1
                self._moment = outer

    @contextmanager
    def trial_run(self) -> Iterator[None]:
        """Undo everything the block does, whether it succeeds or not."""
        mark, fresh = self.state.savepoint(), len(self._fresh)
        try:
            yield
        finally:
            self.state.rollback(mark)
            del self._fresh[fresh:]

    def _commit(self) -> None:
        changed = self.state.commit()
        fresh, self._fresh = self._fresh, []
        for event in fresh:
            self.log.append(event)
        for key in changed:
            if key in self.state.objects:
                self._set_alarm(self.state.objects[key])
        extra = [record for listener in self.listeners for record in listener(fresh)]
        extra += self._alongside
        self._alongside = []
        if self.store.persistent and (changed or extra):
            records = [self._record(key) for key in changed]
            self.store.save(records + [event.record() for event in fresh] + extra)

    def keep(self, record: Record) -> None:
        """Store a record together with this transaction, or not at all."""
        if self.store.persistent:
            self._alongside.append(record)

    def _record(self, key: str) -> Record:
        obj = self.state.objects.get(key)
        if obj is None:
            return Record("object", key, 0, None)
        return Record("object", key, obj["_seq"], orjson.dumps(obj))

    def _load(self) -> None:
        for record in self.store.load("object"):
            self.state.place(orjson.loads(record.body or b""))
        for record in self.store.load("event"):
            self.log.place(Event.from_record(record))
        for record in self.store.load("setting"):
            if record.key == "failures":
                self._failures = orjson.loads(record.body or b"{}")
        for obj in list(self.state.objects.values()):
            self._set_alarm(obj)
            if obj["object"] == "subscription":
                self.item_owners.update({item["id"]: obj["id"] for item in obj["items"]})

    def clear(self) -> None:
        with self.lock:
            self.state = State()
            self.log.clear()
            self._alarms.clear()
            self._failures.clear()
            self.store.clear()

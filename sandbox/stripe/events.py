"""Events: what changed, as it was at that moment, in the order it happened."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from sandbox.stripe.store import Record

Json = dict[str, Any]

# `GET /v1/events` reaches back this far (https://docs.stripe.com/api/events).
KEPT_SECONDS = 30 * 86_400


@dataclass(slots=True)
class Event:
    seq: int
    id: str
    type: str
    subject: str  # id of the object it is about; "" if it has none
    created: int
    api_version: str
    object: bytes  # JSON in the current shape, never changed
    previous: bytes | None
    request: str | None
    idempotency_key: str | None
    pending_webhooks: int = 0

    def as_json(self) -> Json:
        """In the current shape; `data.object` is a fresh copy."""
        data: Json = {"object": orjson.loads(self.object)}
        if self.previous is not None:
            data["previous_attributes"] = orjson.loads(self.previous)
        return self._envelope(data)

    def as_bytes(self) -> bytes:
        data: Json = {"object": orjson.Fragment(self.object)}
        if self.previous is not None:
            data["previous_attributes"] = orjson.Fragment(self.previous)
        return orjson.dumps(self._envelope(data))

    def _envelope(self, data: Json) -> Json:
        return {
            "id": self.id,
            "object": "event",
            "api_version": self.api_version,
            "created": self.created,
            "data": data,
            "livemode": False,
            "pending_webhooks": self.pending_webhooks,
            "request": {"id": self.request, "idempotency_key": self.idempotency_key},
            "type": self.type,
        }

    def record(self) -> Record:
        return Record("event", self.id, self.seq, self.as_bytes())

    @classmethod
    def from_record(cls, record: Record) -> "Event":
        saved = orjson.loads(record.body or b"{}")
        previous = saved["data"].get("previous_attributes")
        return cls(
            seq=record.seq,
            id=saved["id"],
            type=saved["type"],
            subject=saved["data"]["object"].get("id", ""),
            created=saved["created"],
            api_version=saved["api_version"],
            object=orjson.dumps(saved["data"]["object"]),
            previous=None if previous is None else orjson.dumps(previous),
            request=saved["request"]["id"],
            idempotency_key=saved["request"]["idempotency_key"],
            pending_webhooks=saved["pending_webhooks"],
        )


class EventLog:
    def __init__(self) -> None:
        self._events: list[Event] = []
        self._by_id: dict[str, Event] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._events)

    def find(self, id: str) -> Event | None:
        return self._by_id.get(id)

    def after(self, seq: int = 0) -> list[Event]:
        """Events newer than the one numbered `seq`, oldest first."""
        if not self._events or self._events[-1].seq <= seq:
            return []
        low, high = 0, len(self._events)
        while low < high:
            middle = (low + high) // 2
            if self._events[middle].seq <= seq:
                low = middle + 1
            else:
                high = middle
        return self._events[low:]

    @property
    def last(self) -> Event:
        """Raises IndexError."""
        return self._events[-1]

    def newest_first(self) -> Iterator[Event]:
        return reversed(self._events)

    def before(self, seq: int) -> Iterator[Event]:
        """Events older than the one numbered `seq`, newest first."""
        end = len(self._events) - len(self.after(seq - 1))
        return (self._events[index] for index in range(end - 1, -1, -1))

    def append(self, event: Event) -> None:
        event.seq = self._next
        self.place(event)

    def place(self, event: Event) -> None:
        self._next = max(self._next, event.seq + 1)
        self._events.append(event)
        self._by_id[event.id] = event

    def clear(self) -> None:
        self._events.clear()
        self._by_id.clear()


def previous_attributes(before: Json, after: Json) -> Json:
    """What `data.previous_attributes` says: old values of what changed, hashes only in part."""
    changed: Json = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            changed[name] = previous_attributes(old, new)
        else:
            changed[name] = old
    return changed

"""What was asked of a stand-in: kept in memory, without secrets, for tests to count."""

import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

KEPT = 20_000
SECRETS = re.compile(r"(sk-|sk_|rk_|whsec_|eyJ)[\w.%-]+")


def masked(text: str) -> str:
    """The text without key values or tokens: the first letters stay, to say what it was."""
    return SECRETS.sub(r"\1***", text)


@dataclass(slots=True)
class Entry:
    """One request. `caller` says who asked (a hash or a name), never a credential itself."""

    seq: int
    at: float
    method: str
    path: str
    query: str
    caller: str | None
    status: int | None = None
    seconds: float | None = None
    fault: str | None = None
    # What the route itself wants a test to see: model, tokens, whether the client left.
    notes: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "caller": self.caller,
            "status": self.status,
            "seconds": self.seconds,
            "fault": self.fault,
            "notes": self.notes,
        }


class RequestLog:
    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.last = 0

    def begin(self, method: str, path: str, query: bytes, caller: str | None) -> Entry:
        self.last += 1
        text = query.decode("latin-1")
        if "sk" in path or "eyJ" in path:
            path = masked(path)
        entry = Entry(self.last, time.time(), method, path, masked(text) if text else text, caller)
        self.entries.append(entry)
        return entry

    def clear(self) -> None:
        self.entries.clear()

    def since(self, seq: int) -> dict[str, Any]:
        """The requests after `seq`, how often each route was asked, and the last number given."""
        entries = [entry for entry in self.entries if entry.seq > seq]
        counts: dict[str, int] = {}
        for entry in entries:
            route = f"{entry.method} {entry.path}"
            counts[route] = counts.get(route, 0) + 1
        return {
            "requests": [entry.as_json() for entry in entries],
            "counts": counts,
            "last": self.last,
        }

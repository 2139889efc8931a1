"""Faults that can be switched on per route, and the requests a stand-in has seen.

`Sandbox` wraps a stand-in's ASGI app and adds, guarded like the app itself:

    POST   /sandbox/faults     {"route", "kind", …} → the fault, with its id
    GET    /sandbox/faults     the faults that are on, with how often each struck
    DELETE /sandbox/faults     all off; /sandbox/faults/{id}: that one
    POST   /sandbox/reset      faults off, request log empty, the app's data gone
    GET    /sandbox/requests   ?since=seq: see requestlog.RequestLog.since

A fault's fields, all but the first two optional:

    route         "POST /key/generate", "/key/*" (any method), "*"
    kind          status    answer `status` (500) with `body`, else the service's usual envelope
                  slow      wait `delay` seconds (1), then answer as usual
                  timeout   no answer at all, until the client leaves or `delay` seconds (600) pass
                  reset     reset the connection instead of answering
                  torn      send half of the answer under its full length, then reset
                  stream_break   `after_chunks` pieces of the answer, then reset
                  stream_error   `after_chunks` pieces, then an error frame (`body`, or LiteLLM's)
                            and [DONE], unless `done` is false
                  silence   200, headers and `after_chunks` pieces, then nothing, as `timeout`
                  garbage   200 and `after_chunks` pieces, then bytes that mean nothing
    times         strike so often, then be off; without it, until deleted
    probability   0 to 1: strike that share of the matching requests
    caller        strike only requests of this caller (as in the request log)
    after_effect  true: do the work first and then fail, as when an answer gets lost (torn, and
                  whatever sends pieces of the answer, must do the work anyway)
    retry_after   seconds, as a Retry-After header (status)
    done          see stream_error

Where several match, the one switched on first strikes.
"""

import fnmatch
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import parse_qs

import orjson

from sandbox import faultplay
from sandbox.asgi import App, Receive, Scope, Send, answer_json, read_body
from sandbox.requestlog import Entry, RequestLog

NUMBERS = {
    "status": int,
    "delay": float,
    "times": int,
    "probability": float,
    "after_chunks": int,
    "retry_after": float,
}


@dataclass(slots=True, kw_only=True)
class Fault:
    id: int
    route: str
    kind: str
    status: int = 500
    body: Any = None
    delay: float | None = None
    times: int | None = None
    probability: float = 1.0
    caller: str | None = None
    after_effect: bool = False
    after_chunks: int = 0
    retry_after: float | None = None
    done: bool = True
    hits: int = 0

    def matches(self, method: str, path: str, caller: str | None) -> bool:
        if self.caller is not None and self.caller != caller:
            return False
        wanted_method, _, wanted_path = self.route.rpartition(" ")
        if wanted_method and wanted_method != method:
            return False
        return fnmatch.fnmatchcase(path, wanted_path)


class FaultBook:
    """The faults that are on."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.last = 0
        # Seeded: the same run strikes the same requests.
        self.chance = random.Random(1)

    def switch_on(self, wanted: object) -> Fault:
        """Raises ValueError for an unknown kind, an unknown field or a value of the wrong type."""
        if not isinstance(wanted, dict):
            raise ValueError("a JSON object is needed")
        known = {field.name for field in fields(Fault)} - {"id", "hits"}
        unknown = set(wanted) - known
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
        if not isinstance(wanted.get("route"), str):
            raise ValueError("route: a string such as 'POST /key/generate' or '*' is needed")
        if wanted.get("kind") not in faultplay.KINDS:
            raise ValueError(f"kind: one of {', '.join(faultplay.KINDS)}")
        for name, convert in NUMBERS.items():
            value = wanted.get(name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise ValueError(f"{name}: a number is needed")
            if value is not None:
                wanted = {**wanted, name: convert(value)}
        self.last += 1
        fault = Fault(id=self.last, **wanted)
        self.faults.append(fault)
        return fault

    def switch_off(self, fault_id: int | None = None) -> None:
        self.faults = [] if fault_id is None else [f for f in self.faults if f.id != fault_id]

    def strike(self, method: str, path: str, caller: str | None) -> Fault | None:
        """The fault that this request meets, counted."""
        for fault in self.faults:
            if not fault.matches(method, path, caller):
                continue
            if fault.probability < 1 and self.chance.random() >= fault.probability:
                continue
            fault.hits += 1
            if fault.times is not None and fault.hits >= fault.times:
                self.faults.remove(fault)
            return fault
        return None


class Sandbox:
    """ASGI middleware: request log, control routes and faults around a stand-in.

    authorize   may this request use the control routes?
    caller      who asks: a hash or a name for the request log, never a credential
    envelope    the service's usual error body for a status
    reset       forget all data

    The app finds its request's log entry in `scope["sandbox.entry"]` and may add notes to it.
    """

    def __init__(
        self,
        app: App,
        *,
        authorize: Callable[[Scope], bool],
        caller: Callable[[Scope], str | None],
        envelope: Callable[[int], bytes],
        reset: Callable[[], None],
    ) -> None:
        self.app = app
        self.authorize = authorize
        self.caller = caller
        self.envelope = envelope
        self.reset = reset
        self.book = FaultBook()
        self.log = RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith("/sandbox/") and await self._control(scope, receive, send):
            return
        method: str = scope["method"]
        caller = self.caller(scope)
        entry = self.log.begin(method, path, scope["query_string"], caller)
        scope["sandbox.entry"] = entry
        fault = self.book.strike(method, path, caller) if self.book.faults else None
        begun = time.perf_counter()
        try:
            if fault is None:
                await self.app(scope, receive, noting_status(entry, send))
            else:
                entry.fault = fault.kind
                stage = faultplay.Stage(fault, self.app, scope, receive, send, entry, self.envelope)
                await stage.play()
        finally:
            entry.seconds = round(time.perf_counter() - begun, 6)

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a control route. False when the path is none of ours: the app may know it."""
        method, path = scope["method"], scope["path"]
        name, _, rest = path.removeprefix("/sandbox/").partition("/")
        if name not in ("faults", "reset", "requests"):
            return False
        if not self.authorize(scope):
            await answer_json(send, 401, {"error": "the sandbox's controls need its admin key"})
        elif (method, name) == ("GET", "requests"):
            query = parse_qs(scope["query_string"].decode("latin-1"))
            await answer_json(send, 200, self.log.since(int(query.get("since", ["0"])[0])))
        elif (method, name) == ("POST", "reset"):
            self.book.switch_off()
            self.log.clear()
            self.reset()
            await answer_json(send, 200, {"reset": True})
        elif name == "faults" and method in ("GET", "POST", "DELETE"):
            await self._faults(method, rest, receive, send)
        else:
            await answer_json(send, 405, {"error": "method not allowed"})
        return True

    async def _faults(self, method: str, rest: str, receive: Receive, send: Send) -> None:
        if method == "POST":
            try:
                wanted = orjson.loads(await read_body(receive))
                fault = self.book.switch_on(wanted)
            except ValueError as error:
                await answer_json(send, 400, {"error": str(error)})
                return
            await answer_json(send, 201, asdict(fault))
            return
        if method == "DELETE":
            self.book.switch_off(int(rest) if rest.isdigit() else None)
        await answer_json(send, 200, {"faults": [asdict(fault) for fault in self.book.faults]})


def noting_status(entry: Entry, send: Send) -> Send:
    async def send_and_note(message: Any) -> None:
        if message["type"] == "http.response.start":
            entry.status = message["status"]
        await send(message)

    return send_and_note

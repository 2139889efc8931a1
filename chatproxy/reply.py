"""The responses of the chat path's own entrance, as ASGI messages."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from django.conf import settings

from chatproxy.idempotency import Kept
from chatproxy.relay import KEEP_ALIVE
from chatproxy.steps import Steps, begin, rest
from tesslate.lib.errors import ApiError, TooLarge

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HeaderList = list[tuple[bytes, bytes]]

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform keeps proxies from compressing, for which they would collect bytes first.
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
JSON_HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
PREFLIGHT_SECONDS = b"86400"


class Reply:
    """One response, in the shapes this path has."""

    __slots__ = ("_cors", "_send", "_unfinished", "has_started", "request_id")

    def __init__(self, send: Send, cors: HeaderList) -> None:
        self._send = send
        self._cors = cors
        self._unfinished: tuple[Steps, Any] | None = None
        self.has_started = False
        self.request_id = b""

    async def start_stream(self) -> None:
        self.has_started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*STREAM_HEADERS, (b"x-request-id", self.request_id), *self._cors],
            }
        )

    async def send_chunk(self, chunk: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    def send_now(self, chunk: bytes) -> bool:
        """Send without a task to wait in. False: ``settle`` has to finish it."""
        message = {"type": "http.response.body", "body": chunk, "more_body": True}
        sending = self._send(message).__await__()
        waiting = begin(sending)
        if waiting is None:
            return True
        self._unfinished = (sending, waiting)
        return False

    async def settle(self) -> None:
        """Wait until what ``send_now`` began is sent, if anything is."""
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is not None:
            await rest(*unfinished)

    async def keep_alive(self) -> None:
        """The gateway thinks long: let proxies in front see that somebody is there."""
        if not self.has_started:
            await self.start_stream()
        await self.send_chunk(KEEP_ALIVE, more=True)

    async def json(self, status: int, body: bytes, extra: HeaderList | None = None) -> None:
        self.has_started = True
        length = str(len(body)).encode()
        headers = [
            *JSON_HEADERS,
            (b"content-length", length),
            (b"x-request-id", self.request_id),
            *self._cors,
            *(extra or ()),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def replay(self, kept: Kept) -> None:
        """An answer that was given before, under the id it had then."""
        self.request_id = kept.request_id.encode()
        self._cors = [*self._cors, (b"idempotent-replayed", b"true")]
        if not kept.is_stream:
            await self.json(200, kept.body)
            return
        await self.start_stream()
        await self.send_chunk(kept.body, more=False)

    async def error(self, error: ApiError, extra: HeaderList | None = None) -> None:
        headers = [
            (name.lower().encode(), value.encode()) for name, value in error.headers().items()
        ]
        if isinstance(error, TooLarge):  # the rest of the body is not read
            headers.append((b"connection", b"close"))
        await self.json(error.status_code, orjson.dumps(error.body()), [*headers, *(extra or ())])

    async def preflight(self, method: str) -> None:
        headers = [*self._cors, (b"content-length", b"0")]
        if self._cors:
            allowed = ", ".join(settings.CORS_ALLOW_HEADERS).encode()
            headers += [
                (b"access-control-allow-methods", f"{method}, OPTIONS".encode()),
                (b"access-control-allow-headers", allowed),
                (b"access-control-max-age", PREFLIGHT_SECONDS),
            ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": b""})

"""The gateway's inference routes, over a small HTTP/1.1 client of our own.

General clients cost more than everything else on this path together (aiohttp some 40 % of the CPU
per stream, httpx many times that), and none lets us look at a stream that says nothing. This
one does what the path needs: a pool of connections to one address, a request with a
body, an answer read as it arrives with backpressure, closing at any moment. Parsing is httptools',
which is llhttp, Node's parser.
"""

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

import httptools

ATTEMPTS = 3
RETRIED_STATUSES = frozenset({502, 503, 504})
# A provider's 429 is worth waiting for only when it says that it will be over at once.
LONGEST_WAIT_SECONDS = 2
BACKOFF_SECONDS = 0.2
# Unread bytes of one answer after which the gateway is made to wait, and to go on.
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024
NO_TRACE: Mapping[str, str] = MappingProxyType({})
IDLE_SECONDS = 30.0
MOST_IDLE = 1024


# Given bytes as they come, from the event loop itself; says whether it has dealt with them.
Sink = Callable[[bytes], bool]


class GatewayDown(Exception):
    """No answer: the gateway cannot be reached, or went away before it answered."""


class BrokenOff(Exception):
    """The answer ended before its end."""


class Answer:
    """One answer of the gateway, perhaps not here yet.

    Only one coroutine may wait on it at a time. ``nudge`` ends its wait early, so that somebody
    who watches the clock can have the waiting coroutine look around.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_is_chunked_or_sized",
        "_nudged",
        "_parts",
        "_sink",
        "_size",
        "_waiter",
        "has_head",
        "headers",
        "is_complete",
        "status",
    )

    def __init__(self, connection: "_Connection") -> None:
        self._connection: _Connection | None = connection
        self._parts: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._nudged = False
        self._error: Exception | None = None
        self._is_chunked_or_sized = False
        self.has_head = False
        self.is_complete = False
        self.status = 0
        # Names in lower case; of repeated ones the last.
        self.headers: dict[str, str] = {}

    async def head(self) -> bool:
        """Wait for status and headers. False when nudged. Raises GatewayDown."""
        while not self.has_head:
            if self._error is not None:
                raise GatewayDown(str(self._error))
            if self._nudged:
                self._nudged = False
                return False
            await self._wait()
        return True

    async def next(self, sink: Sink | None = None) -> bytes | None:
        """Everything that has arrived since; b"" at the end, None when nudged.

        Raises BrokenOff after the last byte of an answer that was cut short. What arrives while
        this waits is offered to ``sink`` first: it saves waking a task for what needs no thought.
        """
        while True:
            if parts := self._parts:
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                self._taken()
                return data
            if self.is_complete:
                return b""
            if self._error is not None:
                raise BrokenOff(str(self._error))
            if self._nudged:
                self._nudged = False
                return None
            self._sink = sink
            try:
                await self._wait()
            finally:
                self._sink = None

    async def read(self, limit: int) -> bytes:
        """The whole body, cut at ``limit`` bytes. Raises BrokenOff."""
        parts = []
        size = 0
        while (data := await self.next()) != b"" and size < limit:
            if data is not None:
                parts.append(data)
                size += len(data)
        return b"".join(parts)[:limit]

    def nudge(self) -> None:
        self._nudged = True
        self._wake()

    def close(self) -> None:
        """Not interested any more: before the answer's end this cancels it at the gateway."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        self._parts.clear()

    async def _wait(self) -> None:
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _taken(self) -> None:
        self._parts.clear()
        if self._size > LOW_WATER and self._connection is not None:
            self._connection.resume()
        self._size = 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the connection tells.

    def take_head(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._is_chunked_or_sized = "transfer-encoding" in headers or "content-length" in headers
        self.has_head = True
        self._wake()

    def take(self, data: bytes) -> bool:
        """Say whether the gateway may go on sending."""
        self._parts.append(data)
        self._size += len(data)
        return self._size < HIGH_WATER

    def arrived(self) -> None:
        """One read from the network is over, and may have brought several parts."""
        parts, waiter = self._parts, self._waiter
        if not parts or waiter is None or waiter.done():
            return
        sink = self._sink
        if sink is not None and sink(parts[0] if len(parts) == 1 else b"".join(parts)):
            self._taken()
        else:
            waiter.set_result(None)

    def complete(self) -> None:
        self.is_complete = True
        self._connection = None
        self._wake()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._connection = None
        if self.has_head and error is None and not self._is_chunked_or_sized:
            self.is_complete = True  # such an answer ends with its connection
        elif not self.is_complete:
            self._error = error or ConnectionResetError("closed by the gateway")
        self._wake()


class _Connection(asyncio.Protocol):
    """A connection to the gateway: idle in the pool, or busy with one answer."""

    __slots__ = (
        "_answer",
        "_headers",
        "_is_paused",
        "_parser",
        "_pool",
        "_transport",
        "idle_since",
    )

    def __init__(self, pool: "Upstream") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        # Refers back to us, so it goes when the connection does: see connection_lost.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._headers: dict[str, str] = {}
        self._is_paused = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> Answer:
        assert self._transport is not None
        self._answer = answer = Answer(self)
        self._transport.write(request)
        return answer

    def abandon(self) -> None:
        """Nobody reads the present answer any more."""
        self._answer = None
        self.abort()

    def abort(self) -> None:
        """Who reads the present answer is told that it broke off."""
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        # uvloop collects writes until all that is ready has been read; a request goes out at once.
        self._transport.set_write_buffer_limits(high=0)
        self._pool.admit(self)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if self._answer is None or parser is None:  # unasked: not one to trust with a request
            self.abandon()
            return
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(error)
            self.abandon()
        if self._answer is not None:
            self._answer.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # Left to the garbage collector, whose full rounds are hours apart, dead connections add up.
        self._parser = None
        self._lose(exc)
        self._pool.forget(self)

    def _lose(self, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.lose(error)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200 and self._answer is not None:  # 1xx announces, it does not answer
            self._answer.take_head(status, self._headers)

    def on_body(self, body: bytes) -> None:
        if self._answer is not None and not self._answer.take(body) and not self._is_paused:
            assert self._transport is not None
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.has_head:
            return
        self._answer = None
        answer.complete()
        self.resume()
        if self._parser is not None and self._parser.should_keep_alive():
            # A fresh parser: this one is still inside feed_data, and may hold what follows.
            self._parser = httptools.HttpResponseParser(self)
            self._pool.give_back(self)
        elif self._transport is not None:
            self._transport.close()


class Upstream:
    """The pool of connections to one address. One per event loop."""

    def __init__(self, url: str, *, connect_timeout: float) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._host_header = parts.netloc.rpartition("@")[2].encode()
        self._path = parts.path.rstrip("/").encode()
        self._connect_timeout = connect_timeout
        # Idle ones, least recently used first. The hottest is taken, so that the rest can go.
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._is_closed = False

    async def post(self, path: bytes, headers: bytes, body: bytes) -> Answer:
        """Send a request. ``headers`` are whole lines. Raises GatewayDown when nobody is there."""
        request = b"POST %b%b HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
            self._path, path, self._host_header, headers, len(body), body
        )  # fmt: skip
        return (await self._connection()).send(request)

    async def get(self, path: bytes, headers: bytes) -> Answer:
        request = b"GET %b%b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
            self._path, path, self._host_header, headers
        )  # fmt: skip
        return (await self._connection()).send(request)

    @property
    def connections(self) -> int:
        """How many are open, busy and idle."""
        return len(self._open)

    def close(self) -> None:
        """For good: idle connections, busy ones, and those that are only now being made."""
        self._is_closed = True
        for connection in [*self._open]:
            connection.abort()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        connection = _Connection(self)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, self._host, self._port, ssl=self._tls
                )
        except BaseException as error:
            # uvloop tells nothing to a connection that was made while its maker was cancelled.
            connection.connection_lost(None)
            if isinstance(error, OSError | TimeoutError):
                raise GatewayDown(type(error).__name__) from error
            raise
        if self._is_closed:
            raise GatewayDown("this process is ending")
        return connection

    def admit(self, connection: _Connection) -> None:
        """It has been made."""
        self._open.add(connection)
        if self._is_closed:
            connection.abort()

    def give_back(self, connection: _Connection) -> None:
        now = connection.idle_since = time.monotonic()
        self._idle.append(connection)
        while self._idle and (
            len(self._idle) > MOST_IDLE or self._idle[0].idle_since < now - IDLE_SECONDS
        ):
            self._idle.popleft().abandon()

    def forget(self, connection: _Connection) -> None:
        """It was closed. Seldom idle, and then near the old end."""
        self._open.discard(connection)
        if connection.idle_since and connection in self._idle:
            self._idle.remove(connection)


def request_headers(*, secret: str, call_id: str, trace: Mapping[str, str] = NO_TRACE) -> bytes:
    """The only headers that reach the gateway: a caller's own never do."""
    traced = "".join(f"{name}: {value}\r\n" for name, value in trace.items()) if trace else ""
    return (
        f"Authorization: Bearer {secret}\r\n"
        "Content-Type: application/json\r\n"
        f"x-litellm-call-id: {call_id}\r\n{traced}"
    ).encode("ascii")


def is_worth_retrying(status: int, headers: Mapping[str, str]) -> bool:
    """Before the first byte only: an answer that says "not now" rather than "not so"."""
    if status in RETRIED_STATUSES:
        return True
    return (
        status == 429
        and "rate_limit_type" not in headers
        and 0 < _told_wait(headers) <= LONGEST_WAIT_SECONDS
    )


async def back_off(attempt: int, headers: Mapping[str, str]) -> None:
    """Wait before the next attempt: as long as told, and exponentially with full jitter."""
    told = min(_told_wait(headers), LONGEST_WAIT_SECONDS)
    jitter = random.uniform(0, BACKOFF_SECONDS * 2**attempt)  # noqa: S311 - spreads load only
    await asyncio.sleep(told + jitter)


def _told_wait(headers: Mapping[str, str]) -> int:
    told = headers.get("retry-after") or headers.get("llm_provider-retry-after") or ""
    return int(told) if told.isascii() and told.isdigit() and len(told) < 6 else 0

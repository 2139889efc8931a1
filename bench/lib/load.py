"""A load generator that reads streams and little else."""

import asyncio
import resource
import time
from dataclasses import dataclass, field

DONE = b"data: [DONE]\n\n"
TAIL_BYTES = 256


@dataclass
class Load:
    """What one round came to."""

    streams: int = 0
    failures: int = 0
    # What the first of them got instead of a stream.
    failure: bytes = b""
    seconds: float = 0.0
    first_bytes: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.streams / self.seconds


class Reader(asyncio.Protocol):
    """One connection, one stream at a time; keep-alive."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.future: asyncio.Future[bool] | None = None
        self.tail = b""
        self.first_byte = 0.0
        self.started = 0.0
        self.arrivals: list[float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.first_byte and b"data: " in data:
            self.first_byte = now
        if self.arrivals is not None:
            self.arrivals.extend([now] * data.count(b"data: {"))
        seen = self.tail + data
        self.tail = seen[-TAIL_BYTES:]
        if DONE in seen and seen.endswith(b"0\r\n\r\n"):
            self._end(True)
        elif not self.first_byte and b"HTTP/1.1 200" not in seen:
            self._end(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(False)

    def _end(self, is_good: bool) -> None:
        future, self.future = self.future, None
        if future is not None and not future.done():
            future.set_result(is_good)

    def ask(self, request: bytes) -> asyncio.Future[bool]:
        self.tail = b""
        self.first_byte = 0.0
        self.future = asyncio.get_running_loop().create_future()
        self.started = time.perf_counter()
        self.transport.write(request)
        return self.future


def request(path: str, host: str, token: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def connect(port: int) -> Reader:
    _, reader = await asyncio.get_running_loop().create_connection(Reader, "127.0.0.1", port)
    return reader


async def saturate(
    port: int, data: bytes, *, concurrency: int, seconds: float, ramp: float = 0.0
) -> Load:
    """Keep ``concurrency`` streams going for a while. The first ones begin spread over ``ramp``
    seconds: streams of one length that begin together go on in step, and then each waits for all
    the others."""
    load = Load()
    begun = time.perf_counter()
    end = begun + seconds

    async def one(n: int) -> None:
        await asyncio.sleep(ramp * n / concurrency)
        reader = await connect(port)
        while time.perf_counter() < end:
            if await reader.ask(data):
                load.streams += 1
                load.first_bytes.append(reader.first_byte - reader.started)
            else:
                load.failures += 1
                load.failure = load.failure or reader.tail or b"(closed)"
                reader.transport.abort()
                reader = await connect(port)
        reader.transport.abort()

    await asyncio.gather(*map(one, range(concurrency)))
    load.seconds = time.perf_counter() - begun
    return load


async def hold(
    port: int, data: bytes, *, streams: int, ramp: float, chunks: int, pause: float
) -> Load:
    """Open many streams, spread over ``ramp`` seconds, and read each to its end.

    Lateness: how much later than ``pause`` after its predecessor's due time a chunk arrived.
    """
    load = Load()
    begun = time.perf_counter()

    async def one(n: int) -> None:
        await asyncio.sleep(ramp * n / streams)
        reader = await connect(port)
        reader.arrivals = []
        is_good = await reader.ask(data)
        reader.transport.abort()
        if not is_good:
            load.failures += 1
            load.failure = load.failure or reader.tail or b"(closed)"
            return
        load.streams += 1
        load.first_bytes.append(reader.first_byte - reader.started)
        first = reader.arrivals[0]
        for place, at in enumerate(reader.arrivals[1 : chunks - 1], start=1):
            load.lateness.append(at - first - place * pause)

    await asyncio.gather(*(one(n) for n in range(streams)))
    load.seconds = time.perf_counter() - begun
    return load


def raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")

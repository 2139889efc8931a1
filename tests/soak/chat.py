"""The chat path under mixed load for a while: `python -m tests.soak.chat --minutes N`.

A web process of its own on throw-away engines serves clients of every kind: some read to the end,
some leave at once, in the middle or just before the end, some stop reading, some ask for what they
may not have, some come back with an idempotency key. Meanwhile the gateway now and then breaks a
stream or refuses. In the end

    every request that was sent is in the ledger, once;
    nothing is under way any more: no task, no connection to the gateway, no open slot;
    memory has not grown since the process was warm.

Prints a line of figures every few seconds, and at last `histories: N, divergences: N`.
"""

import argparse
import asyncio
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import httpx
import uvloop

from bench.lib.load import raise_file_limit
from bench.lib.processes import free_port, program, resident_bytes, uvicorn
from bench.lib.product import MODEL, Product, product
from tests.chatproxy import gateway as scripted
from tests.chatproxy.gateway import USAGE, Asked, Wire, chunk

CLIENTS = 60
WARM_SECONDS = 20.0
REPORT_SECONDS = 5.0
# Connections that may stay: to the gateway, one idle for each client at most, and to the database.
MOST_FILES_LEFT = CLIENTS + 20
# What a warm process may still gain: arenas, caches of tokens and prompts.
MOST_GROWTH_BYTES = 16 * 1024 * 1024


async def gateway_of_all_kinds(asked: Asked, wire: Wire) -> None:
    kind = random.random()
    if kind < 0.03:
        await scripted.refuses(500, "internal_server_error")(asked, wire)
    elif kind < 0.06:
        await scripted.refuses(429, "throttling_error", rate_limit_type="requests")(asked, wire)
    else:
        await wire.start()
        await wire.frame(chunk(delta={"role": "assistant", "content": ""}))
        for n in range(20):
            if kind < 0.10 and n == 10:
                wire.hang_up()
                return
            await wire.say(f"tok{n} ")
            await asyncio.sleep(0.01)
        await wire.finish(USAGE)


class Caller:
    """Sends requests and counts those that left this machine whole."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.token = token
        self.sent = 0
        self.kinds: Counter[str] = Counter()

    async def run(self, until: float, most: int) -> None:
        kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (50, self.reads_all),
            (15, self.leaves_at_once),
            (15, self.leaves_midway),
            (5, self.stops_reading),
            (5, self.asks_for_too_much),
            (5, self.sends_nonsense),
            (5, self.repeats),
        ]
        weights = [weight for weight, _ in kinds]
        while time.monotonic() < until and self.sent < most:
            _, act = random.choices(kinds, weights)[0]
            self.kinds[act.__name__] += 1
            await act()

    async def ask(
        self, model: str = MODEL, body: bytes | None = None, extra: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        content = {"messages": [{"role": "user", "content": "hi"}], "selectedModelId": model}
        data = json.dumps(content).encode() if body is None else body
        writer.write(
            f"POST /api/proxy/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Length: {len(data)}\r\n"
            f"{extra}\r\n".encode()
            + data
        )
        await writer.drain()
        self.sent += 1
        return reader, writer

    async def reads_all(self) -> None:
        reader, writer = await self.ask()
        await reader.read(-1)
        writer.close()

    async def leaves_at_once(self) -> None:
        _, writer = await self.ask()
        writer.close()  # politely: a reset could overtake the request itself
        await writer.wait_closed()

    async def leaves_midway(self) -> None:
        reader, writer = await self.ask()
        await reader.read(random.randrange(1, 4000))
        await asyncio.sleep(random.random() * 0.25)
        writer.transport.abort()

    async def stops_reading(self) -> None:
        reader, writer = await self.ask()
        await reader.read(10)
        await asyncio.sleep(1)
        writer.transport.abort()

    async def asks_for_too_much(self) -> None:
        reader, writer = await self.ask(model="no-such-model")
        await reader.read(-1)
        writer.close()

    async def sends_nonsense(self) -> None:
        reader, writer = await self.ask(body=b"{" * random.randrange(1, 50))
        await reader.read(-1)
        writer.close()

    async def repeats(self) -> None:
        key = f"Idempotency-Key: {random.getrandbits(64)}\r\n"
        for _ in range(2):
            reader, writer = await self.ask(extra=key)
            await reader.read(-1)
            writer.close()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--histories", type=int, default=0, help="end after so many requests")
    options = parser.parse_args(argv)
    seconds, most = options.minutes * 60, options.histories or sys.maxsize
    raise_file_limit()
    with ExitStack() as stack:
        gateway = stack.enter_context(scripted.running())
        gateway.script = gateway_of_all_kinds
        gateway.asked = Forgetful()
        made = stack.enter_context(product(gateway.url))
        port = free_port()
        command = uvicorn("tesslate.asgi:application", port)
        cores = os.sched_getaffinity(0)
        web = program(command, port=port, cores=cores, environment=made.environment)
        pid = stack.enter_context(web)
        sent, problems = uvloop.run(_soak(port, pid, made, gateway, seconds, most))
    for problem in problems:
        print(f"divergence: {problem}")
    print(f"histories: {sent}, divergences: {len(problems)}")
    return 1 if problems else 0


class Forgetful(list[Asked]):
    """The scripted gateway remembers what it was asked; here that would be a leak of ours."""

    def append(self, asked: Asked) -> None:
        pass


async def _soak(
    port: int, pid: int, made: Product, gateway: scripted.Gateway, seconds: float, most: int
) -> tuple[int, list[str]]:
    caller = Caller(port, made.token)
    files = _open_files(pid)
    begun = time.monotonic()
    until = begun + seconds
    clients = [asyncio.create_task(caller.run(until, most)) for _ in range(CLIENTS)]
    warm = 0
    while time.monotonic() < until and caller.sent < most:
        await asyncio.sleep(min(REPORT_SECONDS, max(0.1, until - time.monotonic())))
        memory = resident_bytes(pid)
        if not warm or time.monotonic() - begun < min(WARM_SECONDS, seconds / 3):
            warm = memory
        figures = {"seconds": round(time.monotonic() - begun), "sent": caller.sent}
        figures |= {"memory_mb": memory >> 20, "files": _open_files(pid)}
        print(json.dumps(figures), flush=True)
    await asyncio.gather(*clients)
    print(json.dumps(dict(caller.kinds)), flush=True)
    return caller.sent, await _problems(caller, pid, gateway, warm, files)


async def _problems(
    caller: Caller, pid: int, gateway: scripted.Gateway, warm: int, files: int
) -> list[str]:
    deadline = time.monotonic() + 30
    while (recorded := await asyncio.to_thread(_recorded)) < caller.sent:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    problems = []
    if recorded != caller.sent:
        problems.append(f"{caller.sent} requests sent, {recorded} in the ledger")
    if gateway.busy:
        problems.append(f"{gateway.busy} streams still run at the gateway")
    if active := await asyncio.to_thread(_active, caller.port):
        problems.append(f"{active} requests are still under way in the web process")
    left = _open_files(pid) - files
    if left > MOST_FILES_LEFT:
        problems.append(f"{left} files or connections more than at the start")
    growth = resident_bytes(pid) - warm
    if growth > MOST_GROWTH_BYTES:
        problems.append(f"memory grew by {growth >> 20} MB")
    figures = {"recorded": recorded, "growth_kb": growth >> 10, "files_left": left}
    print(json.dumps(figures), flush=True)
    return problems


def _recorded() -> int:
    from django.db import connection

    from chatproxy.models import ChatRequest

    try:
        return ChatRequest.objects.count()
    finally:
        connection.close()


def _active(port: int) -> int:
    """The web process's own count, which it takes once a second."""
    time.sleep(2)
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    found = re.search(r"^tesslate_chat_active_streams(?:\{\S*\})? (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

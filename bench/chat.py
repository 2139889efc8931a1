"""The chat path against raw ASGI + aiohttp, nginx (where it is installed) and no proxy at all.

The process under test has one core, load and upstream the other. All contenders run in turn, a few
seconds each, several times over, so that whatever else the machine does hits all of them; figures
are medians of the rounds. BENCH_SECONDS, BENCH_ROUNDS and BENCH_STREAMS change the effort.
"""

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.lib.load import Load, hold, percentile, raise_file_limit, request, saturate
from bench.lib.processes import (
    OTHER_CORES,
    TESTED_CORE,
    cpu_seconds,
    free_port,
    program,
    resident_bytes,
    threads,
    uvicorn,
)
from bench.lib.product import MODEL, Product, product
from bench.lib.result import Result, compared

CHUNKS = 20
PACE = 0.01
SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
STREAMS = int(os.environ.get("BENCH_STREAMS", "5000"))
CONCURRENCY = 96
HELD_CHUNKS = 20
HELD_PAUSE = 1.0
BODY = {"messages": [{"role": "user", "content": "hi"}], "model": MODEL, "stream": True}


@dataclass
class Contender:
    name: str
    port: int
    pid: int
    request: bytes
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    first_bytes: list[list[float]] = field(default_factory=list)


def results() -> Iterator[Result]:
    raise_file_limit()
    os.sched_setaffinity(0, OTHER_CORES)
    with contextlib.ExitStack() as stack:
        fast, paced, slow = free_port(), free_port(), free_port()
        for port, chunks, pause in (
            (fast, CHUNKS, 0.002),
            (paced, CHUNKS, PACE),
            (slow, HELD_CHUNKS, HELD_PAUSE),
        ):
            command = ["-m", "bench.lib.upstream", str(port), str(chunks), str(pause)]
            stack.enter_context(_python(command, port, OTHER_CORES))
        made = stack.enter_context(product(f"http://127.0.0.1:{fast}"))
        yield from _throughput(made, fast)
        yield from _first_bytes(made, paced)
        yield from _held(made, slow)


def _throughput(made: Product, upstream: int) -> Iterator[Result]:
    with contextlib.ExitStack() as stack:
        contenders = [Contender("direct", upstream, 0, _request("/v1/chat/completions", "x"))]
        contenders.append(stack.enter_context(_ours(made)))
        contenders.append(stack.enter_context(_raw(upstream)))
        if shutil.which("nginx"):
            contenders.append(stack.enter_context(_nginx(upstream)))
        for contender in contenders:
            _measure(contender, CONCURRENCY, 1.0)  # warm
            contender.rates.clear()
            contender.cpu.clear()
        for _ in range(ROUNDS):
            for contender in contenders:
                _measure(contender, CONCURRENCY, SECONDS)
    yield from _report({contender.name: contender for contender in contenders})


def _report(by_name: dict[str, Contender]) -> Iterator[Result]:
    ours, raw = by_name["tesslate"], by_name["raw"]
    nginx = by_name.get("nginx")
    median = statistics.median
    yield compared("chat_streams", median(ours.rates), "streams/s", median(raw.rates))
    yield compared("chat_cpu_vs_raw", 1e6 * median(ours.cpu), "us/stream", 1e6 * median(raw.cpu))
    if nginx is not None:
        yield compared(
            "chat_cpu_vs_nginx", 1e6 * median(ours.cpu), "us/stream", 1e6 * median(nginx.cpu)
        )
        yield compared("nginx_streams", median(nginx.rates), "streams/s", median(raw.rates))


def _first_bytes(made: Product, paced: int) -> Iterator[Result]:
    """What we add to the time to the first byte, 32 streams at a time at a token each 10 ms.

    Not at saturation: there, any proxy's figure is the length of its queue.
    """
    environment = {**made.environment, "LITELLM_URL": f"http://127.0.0.1:{paced}"}
    direct = Contender("direct", paced, 0, _request("/v1/chat/completions", "x"))
    with _ours(Product(made.token, environment)) as ours:
        _measure(ours, 32, 1.0)
        for _ in range(ROUNDS):
            for contender in (direct, ours):
                load = _run(
                    saturate(
                        contender.port,
                        contender.request,
                        concurrency=32,
                        seconds=SECONDS,
                        ramp=CHUNKS * PACE,
                    )
                )
                contender.first_bytes.append(load.first_bytes)
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        added = [
            1000 * (percentile(a, share) - percentile(b, share))
            for a, b in zip(ours.first_bytes, direct.first_bytes, strict=True)
        ]
        base = statistics.median(1000 * percentile(b, share) for b in direct.first_bytes)
        yield Result(
            f"chat_added_ttfb_{name}", round(statistics.median(added), 3), "ms", round(base, 3)
        )


def _measure(contender: Contender, concurrency: int, seconds: float) -> None:
    before = cpu_seconds(contender.pid) if contender.pid else 0.0
    load = _run(
        saturate(contender.port, contender.request, concurrency=concurrency, seconds=seconds)
    )
    if load.failures:
        raise RuntimeError(f"{contender.name}: {load.failures} failed, first: {load.failure!r}")
    contender.rates.append(load.rate)
    if contender.pid:
        contender.cpu.append((cpu_seconds(contender.pid) - before) / load.streams)


def _held(made: Product, slow: int) -> Iterator[Result]:
    """Many streams at a chunk a second, all at once, on one process."""
    environment = {**made.environment, "LITELLM_URL": f"http://127.0.0.1:{slow}"}
    with _ours(Product(made.token, environment)) as ours:
        _measure(ours, 32, 0.1)
        before = resident_bytes(ours.pid)
        peak = before
        most_threads = 0

        async def watch() -> None:
            nonlocal peak, most_threads
            while True:
                await asyncio.sleep(0.5)
                peak = max(peak, resident_bytes(ours.pid))
                most_threads = max(most_threads, threads(ours.pid))

        async def held() -> Load:
            watcher = asyncio.create_task(watch())
            load = await hold(
                ours.port,
                ours.request,
                streams=STREAMS,
                ramp=8.0,
                chunks=HELD_CHUNKS,
                pause=HELD_PAUSE,
            )
            watcher.cancel()
            return load

        load = _run(held())
    yield Result("chat_held_streams", load.streams, "streams", STREAMS, load.streams / STREAMS)
    yield Result("chat_held_memory", round((peak - before) / STREAMS / 1024, 1), "KB/stream")
    yield Result("chat_held_threads", most_threads, "threads")
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        lateness = 1000 * percentile(load.lateness, share)
        yield Result(f"chat_held_lateness_{name}", round(lateness, 2), "ms")


# Contenders


@contextlib.contextmanager
def _ours(made: Product) -> Iterator[Contender]:
    port = free_port()
    command = uvicorn("tesslate.asgi:application", port)
    with program(command, port=port, cores=TESTED_CORE, environment=made.environment) as pid:
        path = "/api/proxy/v1/chat/completions"
        yield Contender("tesslate", port, pid, _request(path, made.token))


@contextlib.contextmanager
def _raw(upstream: int) -> Iterator[Contender]:
    port = free_port()
    command = uvicorn("bench.lib.rawproxy:application", port)
    environment = {"BENCH_UPSTREAM": f"http://127.0.0.1:{upstream}"}
    with program(command, port=port, cores=TESTED_CORE, environment=environment) as pid:
        yield Contender("raw", port, pid, _request("/", "x"))


@contextlib.contextmanager
def _nginx(upstream: int) -> Iterator[Contender]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tesslate-bench-nginx-") as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream))
        command = ["nginx", "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"]
        with program(command, port=port, cores=TESTED_CORE) as pid:
            yield Contender("nginx", port, pid, _request("/v1/chat/completions", "x"))


# One process, as the others are; streaming as its documentation wants it.
_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream gateway {{
        server 127.0.0.1:{upstream};
        keepalive 512;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@contextlib.contextmanager
def _python(arguments: list[str], port: int, cores: set[int]) -> Iterator[int]:
    import sys

    with program([sys.executable, *arguments], port=port, cores=cores) as pid:
        yield pid


def _request(path: str, token: str) -> bytes:
    return request(path, "127.0.0.1", token, json.dumps(BODY).encode())


def _run(work: Coroutine[Any, Any, Load]) -> Load:
    return uvloop.run(work)

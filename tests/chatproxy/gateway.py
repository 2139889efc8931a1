"""A gateway whose every byte a test decides: what the stand-in and the real one do only by
accident (a frame cut inside a character, a stream without an end) is done here on purpose."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request as it arrived at the gateway."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=time.monotonic)
    # When the other side closed the connection before the answer was complete.
    cancelled_at: float | None = None
    done: threading.Event = field(default_factory=threading.Event)


Script = Callable[[Asked, "Wire"], Awaitable[None]]


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._gone = asyncio.ensure_future(reader.read(1))

    async def start(
        self,
        status: int = 200,
        content_type: str = "text/event-stream; charset=utf-8",
        **headers: str,
    ) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines.append("transfer-encoding: chunked")
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def send(self, data: bytes | str) -> None:
        """One chunk, in a packet of its own."""
        data = data.encode() if isinstance(data, str) else data
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))
        await asyncio.sleep(0.002)

    async def frame(self, content: dict[str, Any]) -> None:
        await self.send(b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n")

    async def say(self, text: str) -> None:
        await self.frame(chunk(delta={"content": text}))

    async def finish(self, usage: dict[str, Any] | None = None) -> None:
        await self.frame(chunk(delta={}, finish_reason="stop"))
        if usage is not None:
            await self.frame({**chunk(), "choices": [], "usage": usage})
        await self.send(b"data: [DONE]\n\n")
        await self.end()

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        if self._gone.done():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def wait_gone(self, seconds: float) -> None:
        """Say nothing until the other side leaves. Raises ConnectionResetError when it does."""
        await asyncio.wait([self._gone], timeout=seconds)
        if self._gone.done():
            raise ConnectionResetError

    async def stop_listening(self) -> bool:
        """Say whether the other side had left."""
        was_gone = self._gone.done()
        self._gone.cancel()
        await asyncio.wait([self._gone])
        return was_gone

    def hang_up(self) -> None:
        self._writer.transport.abort()


USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "cost": 0.00005}


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": delta or {}}
    if finish_reason:
        choice["finish_reason"] = finish_reason
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "basic-chat",
        "choices": [choice],
    }


async def answers_plainly(asked: Asked, wire: Wire) -> None:
    """Three tokens and the usage, streamed or not, as asked."""
    if not asked.body.get("stream"):
        await answers_whole(asked, wire)
        return
    await wire.start()
    await wire.frame(chunk(delta={"role": "assistant", "content": ""}))
    for text in ("one ", "two ", "three"):
        await wire.say(text)
    await wire.finish(USAGE if asked.body.get("stream_options") else None)


async def answers_whole(asked: Asked, wire: Wire, **extra: Any) -> None:
    message = {"role": "assistant", "content": "one two three"}
    body = {
        "id": "chatcmpl-whole",
        "object": "chat.completion",
        "created": 1700000000,
        "model": asked.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        **extra,
    }
    await wire.start(200, "application/json", x_litellm_response_cost="0.00005")
    await wire.send(json.dumps(body))
    await wire.end()


def refuses(status: int, type: str, message: str = "no", **headers: str) -> Script:
    async def script(asked: Asked, wire: Wire) -> None:
        error = {"message": message, "type": type, "param": None, "code": str(status)}
        # LiteLLM's own names are written with an underscore.
        body = json.dumps({"error": error}).encode()
        lines = [f"HTTP/1.1 {status} X", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"content-length: {len(body)}")
        await wire.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return script


class Gateway:
    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: Script = answers_plainly
        # Taken one by one before ``script``.
        self.next: list[Script] = []
        self.port = 0
        self.open_connections = 0
        # Answers under way.
        self.busy = 0
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open_connections -= 1
            writer.transport.abort()

    def _tell_prices(self, writer: asyncio.StreamWriter) -> None:
        prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
        body = json.dumps({"data": [{"model_name": "basic-chat", "model_info": prices}]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if "/model/info" in head[0]:
            self._tell_prices(writer)
            return True
        asked = Asked(head[0].split()[1], headers, json.loads(body) if body else {})
        self.asked.append(asked)
        wire = Wire(reader, writer)
        self.busy += 1
        try:
            await (self.next.pop(0) if self.next else self.script)(asked, wire)
        except ConnectionError:
            asked.cancelled_at = time.monotonic()
            return False
        finally:
            self.busy -= 1
            asked.done.set()
            was_gone = await wire.stop_listening()
        return not was_gone and not writer.transport.is_closing()


@contextmanager
def running() -> Iterator[Gateway]:
    gateway = Gateway()
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    servers = []

    async def main() -> None:
        server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0, backlog=4096)
        servers.append(server)
        gateway.port = server.sockets[0].getsockname()[1]
        ready.set()

    def run() -> None:
        loop.run_until_complete(main())
        loop.run_forever()
        servers[0].close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    thread = threading.Thread(target=run, name="scripted-gateway", daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield gateway
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)

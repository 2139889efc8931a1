"""How each kind of fault is played on the wire. What they mean is told in faults.py."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from sandbox.asgi import (
    JSON,
    App,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    abort,
    answer,
    until_disconnect,
)
from sandbox.requestlog import Entry

if TYPE_CHECKING:
    from sandbox.faults import Fault

HANG_SECONDS = 600.0
SLOW_SECONDS = 1.0
# What was sent must reach the client before a reset can overtake it.
FLUSH_SECONDS = 0.02
GARBAGE = b"\x00\xff<html>{{{ not what you asked for"
ERROR_FRAME = (
    b'data: {"error": {"message": "litellm.APIConnectionError: APIConnectionError: '
    b'OpenAIException - Connection error.", "type": "internal_server_error", "param": null, '
    b'"code": "500"}}\n\n'
)
DONE_FRAME = b"data: [DONE]\n\n"


class Cut(Exception):
    """The answer ends here: unwinds the app that was still sending."""


@dataclass(slots=True)
class Stage:
    """One request that meets a fault."""

    fault: "Fault"
    app: App
    scope: Scope
    receive: Receive
    send: Send
    entry: Entry
    envelope: Callable[[int], bytes]

    async def play(self) -> None:
        await KINDS[self.fault.kind](self)

    async def effect(self) -> None:
        """Let the work be done and the answer be lost, where the fault asks for that."""

        async def lose(message: Message) -> None:
            pass

        if self.fault.after_effect:
            await self.app(self.scope, self.receive, lose)

    async def until_given_up(self) -> None:
        """Wait until the client leaves, at most as long as the fault lasts; then reset."""
        wait = HANG_SECONDS if self.fault.delay is None else self.fault.delay
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until_disconnect(self.receive), wait)
        abort(self.send)

    def after_pieces(self, ending: Callable[[], Awaitable[None]]) -> Send:
        """A `send` that passes `after_chunks` pieces of the body, and then comes the ending."""
        left = self.fault.after_chunks

        async def send(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                self.entry.status = message["status"]
                # A head with a length would forbid any other body than the true one.
                await self.send({**message, "headers": without_length(message["headers"])})
            elif left > 0 and message.get("more_body", False):
                left -= 1
                await self.send(message)
            else:
                await ending()
                raise Cut

        return send

    async def run_until(self, ending: Callable[[], Awaitable[None]]) -> None:
        """Answer in part. Without any part of the answer the work need not be done either."""
        send = self.after_pieces(ending)
        with contextlib.suppress(Cut):
            if self.fault.after_chunks or self.fault.after_effect:
                await self.app(self.scope, self.receive, send)
            else:
                await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
                await send({"type": "http.response.body", "body": b""})


def without_length(headers: Headers) -> Headers:
    return [pair for pair in headers if pair[0] != b"content-length"]


async def play_status(stage: Stage) -> None:
    fault = stage.fault
    await stage.effect()
    if fault.body is None:
        body = stage.envelope(fault.status)
    elif isinstance(fault.body, str):
        body = fault.body.encode()
    else:
        body = orjson.dumps(fault.body)
    headers: Headers = []
    if fault.retry_after is not None:
        headers.append((b"retry-after", b"%g" % fault.retry_after))
    stage.entry.status = fault.status
    await answer(stage.send, fault.status, body, headers)


async def play_slow(stage: Stage) -> None:
    delay = SLOW_SECONDS if stage.fault.delay is None else stage.fault.delay
    begun = False

    async def send_late(message: Message) -> None:
        nonlocal begun
        if not begun:
            begun = True
            stage.entry.status = message["status"]
            await asyncio.sleep(delay if stage.fault.after_effect else 0)
        await stage.send(message)

    if not stage.fault.after_effect:
        await asyncio.sleep(delay)
    await stage.app(stage.scope, stage.receive, send_late)


async def play_timeout(stage: Stage) -> None:
    await stage.effect()
    await stage.until_given_up()


async def play_reset(stage: Stage) -> None:
    await stage.effect()
    abort(stage.send)


async def play_torn(stage: Stage) -> None:
    head: Message = {}
    parts: list[bytes] = []

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            head.update(message)
        else:
            parts.append(message.get("body", b""))

    await stage.app(stage.scope, stage.receive, keep)
    body = b"".join(parts)
    stage.entry.status = head["status"]
    length = (b"content-length", b"%d" % len(body))
    await stage.send({**head, "headers": [*without_length(head["headers"]), length]})
    half = body[: len(body) // 2]
    await stage.send({"type": "http.response.body", "body": half, "more_body": True})
    await asyncio.sleep(FLUSH_SECONDS)
    abort(stage.send)


async def play_stream_break(stage: Stage) -> None:
    async def ending() -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        abort(stage.send)

    await stage.run_until(ending)


async def play_stream_error(stage: Stage) -> None:
    frame = stage.fault.body
    body = ERROR_FRAME if frame is None else b"data: " + orjson.dumps(frame) + b"\n\n"

    async def ending() -> None:
        await stage.send({"type": "http.response.body", "body": body, "more_body": True})
        end = DONE_FRAME if stage.fault.done else b""
        await stage.send({"type": "http.response.body", "body": end})

    await stage.run_until(ending)


async def play_silence(stage: Stage) -> None:
    await stage.run_until(stage.until_given_up)


async def play_garbage(stage: Stage) -> None:
    async def ending() -> None:
        await stage.send({"type": "http.response.body", "body": GARBAGE})

    await stage.run_until(ending)


KINDS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "status": play_status,
    "slow": play_slow,
    "timeout": play_timeout,
    "reset": play_reset,
    "torn": play_torn,
    "stream_break": play_stream_break,
    "stream_error": play_stream_error,
    "silence": play_silence,
    "garbage": play_garbage,
}

"""Sending an answer at the models' pace, and noticing when nobody waits for it any more."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from sandbox.asgi import Headers, Receive, Send, answer, until_disconnect
from sandbox.litellm import frames
from sandbox.litellm.catalogue import Model
from sandbox.litellm.ids import new_id
from sandbox.litellm.replies import Choice

# So often a stream that has no pace lets others have their turn.
TURN = 64
VERSION = b"1.106.2"
STREAM_HEADERS = [
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
]


class Delivery:
    """One answer on its way. `sent` counts the tokens that were generated and went out."""

    def __init__(
        self,
        model: Model,
        prompt_tokens: int,
        choices: list[Choice],
        started: float,
        is_stream: bool,
    ) -> None:
        self.model = model
        self.prompt_tokens = prompt_tokens
        self.choices = choices
        self.started = started
        self.is_stream = is_stream
        self.answer_id = f"chatcmpl-{new_id()}"
        self.sent = 0
        self.first: float | None = None
        self.cancelled_at: float | None = None

    @property
    def total(self) -> int:
        return sum(len(choice.pieces) for choice in self.choices)

    def costs(self) -> tuple[float, float]:
        return self.model.cost(self.prompt_tokens, self.sent)

    def usage(self) -> dict[str, int]:
        return {
            "completion_tokens": self.sent,
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.sent,
        }

    def headers(self) -> Headers:
        milliseconds = (time.time() - self.started) * 1000
        return [
            (b"x-litellm-model-id", self.model.id.encode()),
            (b"x-litellm-model-name", self.model.target.encode()),
            (b"x-litellm-model-group", self.model.name.encode()),
            (b"x-litellm-model-api-base", b"https://provider.example/v1"),
            (b"x-litellm-version", VERSION),
            (b"x-litellm-response-duration-ms", b"%r" % milliseconds),
            (b"x-litellm-overhead-duration-ms", b"%.4f" % min(milliseconds, 1.0)),
            (b"x-litellm-attempted-retries", b"0"),
            (b"x-litellm-attempted-fallbacks", b"0"),
        ]

    def cost_headers(self) -> Headers:
        input_cost, output_cost = self.costs()
        total = input_cost + output_cost
        return [
            (b"x-litellm-response-cost", b"%r" % total),
            (b"x-litellm-response-cost-original", b"%r" % total),
            (b"x-litellm-response-cost-input", b"%r" % input_cost),
            (b"x-litellm-response-cost-output", b"%r" % output_cost),
        ]


async def deliver(
    delivery: Delivery,
    head: Callable[[], Headers],
    body: dict[str, Any],
    tokens_per_second: float,
    receive: Receive,
    send: Send,
) -> None:
    """Answer, as a stream or at once. Returns early when the client has left."""
    watch = asyncio.ensure_future(until_disconnect(receive)) if tokens_per_second else None
    try:
        if delivery.is_stream:
            await _stream(delivery, head(), body, tokens_per_second, watch, send)
        else:
            await _at_once(delivery, head, tokens_per_second, watch, send)
    finally:
        if watch is not None:
            watch.cancel()


async def _at_once(
    delivery: Delivery,
    head: Callable[[], Headers],
    tokens_per_second: float,
    watch: "asyncio.Future[None] | None",
    send: Send,
) -> None:
    if watch is not None:
        await asyncio.wait([watch], timeout=delivery.total / tokens_per_second)
        if watch.done():
            delivery.cancelled_at = time.time()
            return
    delivery.sent = delivery.total
    delivery.first = time.time()
    body = frames.whole(
        delivery.answer_id,
        int(delivery.started),
        delivery.model.name,
        delivery.choices,
        delivery.usage(),
    )
    headers = head() + delivery.headers() + delivery.cost_headers()
    await answer(send, 200, body, headers)


async def _stream(
    delivery: Delivery,
    head: Headers,
    body: dict[str, Any],
    tokens_per_second: float,
    watch: "asyncio.Future[None] | None",
    send: Send,
) -> None:
    stream = frames.Stream(delivery.answer_id, int(delivery.started), delivery.model.name)
    headers = head + delivery.headers() + STREAM_HEADERS
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number, choice in enumerate(delivery.choices):
        made = stream.frames(number, choice)
        # A tool call's first frame names the tool and carries no token.
        without_token = len(made) - len(choice.pieces)
        for place, frame in enumerate(made):
            if watch is not None:
                due = begun + (delivery.sent + 1) / tokens_per_second
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                if watch.done():
                    delivery.cancelled_at = time.time()
                    return
            elif place % TURN == TURN - 1:
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            if place >= without_token:
                delivery.sent += 1
            if delivery.first is None:
                delivery.first = time.time()
        ending = stream.finish(number, choice.finish_reason)
        await send({"type": "http.response.body", "body": ending, "more_body": True})
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        cost = sum(delivery.costs())
        frame = stream.usage(delivery.usage(), cost)
        await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": frames.DONE})

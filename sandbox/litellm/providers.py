"""A provider that fails behind the gateway, as LiteLLM reports it.

A fault whose route is `provider/<model>` (or `provider/*`) strikes after the gateway has admitted
the call: the key's limits are used, the refusal is LiteLLM's own about its provider, and the call
is logged as failed. Kinds as in sandbox.faults, with what LiteLLM makes of them:

    status          that status, with LiteLLM's type for it
    timeout         408 after `delay` seconds (its own time limit)
    reset, torn, garbage    500; a stream, after `after_chunks`, as the next
    stream_break, stream_error   an error frame, then [DONE] all the same (`done`: false for none)
    slow, silence   what the client sees is what the provider does
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from sandbox import faultplay
from sandbox.asgi import App, Headers, Message, Receive, Scope, Send
from sandbox.litellm import errors

if TYPE_CHECKING:
    from sandbox.faults import Fault

AT_ONCE = ("reset", "torn", "garbage")
PATIENCE = 600.0


def route_of(model: str) -> str:
    return f"provider/{model}"


async def play(
    fault: "Fault", answer_it: App, scope: Scope, receive: Receive, send: Send, head: Headers
) -> int | None:
    """Answer as with that provider; the status to log the failure with, None where none is."""
    kind = fault.kind
    if kind == "stream_break" or (kind in AT_ONCE and fault.after_chunks):
        kind = "stream_error"
    elif kind in AT_ONCE:
        kind = "status"
    status = fault.status if fault.kind == "status" else 500
    if kind == "timeout":
        await asyncio.sleep(PATIENCE if fault.delay is None else fault.delay)
        kind, status = "status", 408
    as_litellm = replace(fault, kind=kind, status=status)

    async def send_with_head(message: Message) -> None:
        if message["type"] == "http.response.start" and kind == "status":
            message = {**message, "headers": [*message["headers"], *head]}
        await send(message)

    entry = scope["sandbox.entry"]
    entry.fault = f"provider {fault.kind}"
    stage = faultplay.Stage(
        as_litellm, answer_it, scope, receive, send_with_head, entry, errors.provider_failed
    )
    await stage.play()
    return status if kind in ("status", "stream_error") else None

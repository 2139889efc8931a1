"""The webhook's fast entrance: answered ahead of Django's handler, in the same process.

The same steps as plans.webhooks.stripe_webhook, without middleware and without a thread per
request; the body is refused while it arrives, not after. Events are stored by a few threads with
connections of their own, and the workers are woken at most once in a short while.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from plans import inbox
from plans.models import StripeEvent
from plans.tasks import process_events
from plans.wakeups import publish
from plans.webhooks import (
    NOT_POST,
    Refusal,
    incomplete,
    keep,
    open_envelope,
    refusal_body,
    too_large,
)
from tesslate.lib import tracing
from tesslate.lib.logcontext import log_fields, request_id_from

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH = "/webhooks/stripe"
SPAN: tuple[str, tracing.Kind, dict[str, tracing.Value]] = (
    f"POST {PATH}",
    "server",
    {"http.request.method": "POST", "http.route": PATH},
)
# Each holds a database connection. Inserts are short; more threads would only queue there.
STORING_THREADS = 4
# A sender that dribbles its body is cut off.
BODY_SECONDS = 10.0
# One wake-up stands for all events within this time.
WAKE_EVERY_SECONDS = 0.01


class WebhookApplication:
    """Answers PATH itself and passes everything else on."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(STORING_THREADS, thread_name_prefix="webhooks")
        self._waking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._application(scope, receive, send)
        elif scope["method"] != "POST":
            allow = [(name.lower().encode(), v.encode()) for name, v in NOT_POST.headers().items()]
            headers = [(b"x-request-id", _request_id(scope).encode()), *allow]
            await _respond(send, 405, NOT_POST.body(), headers)
        else:
            request_id = _request_id(scope)
            tracer = tracing.active()
            span = None if tracer is None else tracer.begin(*SPAN, parent="")
            status, content = await self._accept(scope, receive, request_id)
            if span is not None:
                failed = str(status) if status >= 500 else ""
                span.end({"http.response.status_code": status}, error=failed)
            await _respond(send, status, content, [(b"x-request-id", request_id.encode())])

    async def _accept(
        self, scope: Scope, receive: Receive, request_id: str
    ) -> tuple[int, dict[str, Any]]:
        headers = dict(scope["headers"])
        signature = headers.get(b"stripe-signature")
        try:
            # Not around the wake-up, which stands for other requests as well.
            with log_fields(request_id=request_id):
                body = await _read(headers, receive)
                event, text = open_envelope(
                    None if signature is None else signature.decode("latin-1"), body
                )
                loop = asyncio.get_running_loop()
                keep_here = copy_context().run
                stored = await loop.run_in_executor(self._threads, keep_here, _keep, event, text)
        except Refusal as refusal:
            return refusal.status, refusal_body(refusal)
        if stored.state == StripeEvent.State.PENDING and self._waking is None:
            self._waking = asyncio.create_task(self._wake())
        return 200, {"received": True, "duplicate": not stored.is_new}

    async def _wake(self) -> None:
        await asyncio.sleep(WAKE_EVERY_SECONDS)
        # Whoever is stored from here on needs a wake-up of its own.
        self._waking = None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, publish, process_events)


async def _read(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    limit: int = settings.STRIPE_WEBHOOK_MAX_BYTES
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced[:20]) > limit:
        raise too_large()
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise incomplete()
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise too_large()
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise incomplete() from None


def _keep(event: Any, text: str) -> inbox.Stored:
    """Store on this thread's own connection; one that broke meanwhile is replaced once."""
    try:
        return keep(event, text)
    except Refusal as refusal:
        if not isinstance(refusal.__cause__, DatabaseError | InterfaceError):
            raise
        connection.close()
        return keep(event, text)


def _request_id(scope: Scope) -> str:
    """The same id that Django's middleware gives on other paths."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
    return request_id_from(None if given is None else given.decode("latin-1"))


async def _respond(
    send: Send, status: int, content: dict[str, Any], more: list[tuple[bytes, bytes]]
) -> None:
    body = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

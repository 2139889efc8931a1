"""The chat path's own entrance, ahead of Django's handler in the same process.

Django gives each request a thread context and runs its middleware; a stream pays for that many
times over (DESIGN.md, decision 7). So these few paths are answered here, by the same steps as the
DRF views, and everything else goes on to Django.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
from django.db import Error as DatabaseError

from chatproxy.exchange import CLIENT_LEFT, Exchange, Outcome, error_event, new_exchange
from chatproxy.gate import Call, read_front_end, read_openai
from chatproxy.idempotency import Kept
from chatproxy.live import Live
from chatproxy.models import ChatRequest
from chatproxy.reply import Reply, Send
from chatproxy.runtime import Runtime
from chatproxy.steps import Departure
from chatproxy.traces import begin_request
from chatproxy.transport import ClientLeft, Headers, Receive, Scope, Transport, before_stopping
from tesslate.lib import tracing
from tesslate.lib.errors import ApiError, MethodNotAllowed, NotFound, Unavailable
from tesslate.lib.lifecycle import begin_drain
from tesslate.lib.logcontext import bind

logger = logging.getLogger(__name__)

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MODELS_PATH = "/api/proxy/v1/models"
# Objects made while starting are never garbage: keep the collector from walking them, and from
# running so often that thousands of streams notice (DESIGN.md, decision 7).
GC_THRESHOLDS = (50_000, 10, 10)


@dataclass(frozen=True, slots=True)
class Route:
    """A chat entrance: how its body is read and how its requests are marked."""

    client: ChatRequest.Client
    read: Callable[[bytes], Call]


ROUTES = {
    "/api/proxy/chat": Route(ChatRequest.Client.CHAT, read_front_end),
    "/api/proxy/v1/chat/completions": Route(ChatRequest.Client.OPENAI, read_openai),
}


class ChatApplication:
    """Answers the chat paths and the lifespan events; hands the rest to ``django``."""

    def __init__(self, django: Application) -> None:
        self._django = django
        self._runtime: Runtime | None = None
        self._transport: Transport | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            route = ROUTES.get(path)
            if route is not None:
                await self._enter("POST", scope, receive, send, route)
            elif path.startswith(MODELS_PATH) and path[len(MODELS_PATH) :][:1] in {"", "/"}:
                await self._enter("GET", scope, receive, send, None)
            else:
                await self._django(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._django(scope, receive, send)

    @property
    def runtime(self) -> Runtime:
        """The running process's; made at the first request where the server knows no lifespan."""
        if self._runtime is None:
            self._runtime = Runtime()
            self._runtime.start()
        return self._runtime

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            self._transport = Transport()
        return self._transport

    async def _enter(
        self, method: str, scope: Scope, receive: Receive, send: Send, route: Route | None
    ) -> None:
        headers: Headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        reply = Reply(send, [] if origin is None else self.transport.cors_headers(origin))
        if scope["method"] == "OPTIONS":
            await reply.preflight(method)
            return
        exchange = new_exchange(ChatRequest.Client.OPENAI if route is None else route.client)
        reply.request_id = exchange.public_id.encode()
        if scope["method"] != method:
            await reply.error(MethodNotAllowed(method, "OPTIONS"))
            return
        bind(request_id=exchange.public_id)  # ends with this request's task
        if (tracer := tracing.active()) is not None and route is not None:
            begin_request(tracer, exchange, scope["path"], headers.get(b"traceparent", b""))
        if route is None:
            await self._models(scope, headers, reply)
        else:
            await self._chat(scope, headers, receive, reply, route, exchange)

    # Chat

    async def _chat(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        reply: "Reply",
        route: Route,
        exchange: Exchange,
    ) -> None:
        runtime = self.runtime
        try:
            self.transport.check(scope, headers)
            bearer = await runtime.identities.bearer(scope, headers)
            await runtime.identify(exchange, bearer)
            body = await self.transport.body(receive, headers)
            key = headers.get(b"idempotency-key")
            begun = await runtime.begin(
                exchange, route.read, body, None if key is None else key.decode("latin-1")
            )
        except ClientLeft:
            exchange.outcome, exchange.status = Outcome.ABANDONED, CLIENT_LEFT
            runtime.record(exchange)
            return
        except Exception as fault:  # noqa: BLE001 - whatever it is, the caller gets our shape
            error = as_api_error(fault)
            runtime.refuse(exchange, error)
            await reply.error(error)
            return
        if isinstance(begun, Kept):
            await reply.replay(begun)
            return
        live, payload = begun
        live.task = asyncio.current_task()
        departure = Departure(receive, live.leave)
        try:
            await self._serve(live, payload, reply)
        except asyncio.CancelledError:
            if not live.is_cut:
                raise  # the server's own doing
        finally:
            departure.close()

    async def _serve(self, live: Live, payload: bytes, reply: "Reply") -> None:
        relay = self.runtime.relay
        try:
            if live.exchange.is_stream:
                live.on_silence = reply.keep_alive
                live.send_now, live.settle = reply.send_now, reply.settle
                await relay.ask(live, payload)
                if not reply.has_started:
                    await reply.start_stream()
                async with contextlib.aclosing(relay.stream(live)) as chunks:
                    async for chunk in chunks:
                        await reply.send_chunk(chunk, more=not live.exchange.is_over)
            else:
                await relay.ask(live, payload)
                await reply.json(200, await relay.whole(live))
        except Exception as fault:  # noqa: BLE001 - likewise
            error = as_api_error(fault)
            relay.refuse(live, error)
            if reply.has_started:
                await reply.send_chunk(error_event(error), more=False)
            else:
                await reply.error(error)

    # Models

    async def _models(self, scope: Scope, headers: Headers, reply: "Reply") -> None:
        """``/v1/models`` and ``/v1/models/<id>``: what the caller's plan includes now."""
        runtime = self.runtime
        try:
            self.transport.check(scope, headers)
            bearer = await runtime.identities.bearer(scope, headers)
            models = await runtime.models_of(bearer.user_id)
            wanted = scope["path"][len(MODELS_PATH) + 1 :]
            if not wanted:
                await reply.json(200, orjson.dumps({"object": "list", "data": models}))
                return
            found = next((model for model in models if model["id"] == wanted), None)
            if found is None:
                raise NotFound
            await reply.json(200, orjson.dumps(found))
        except Exception as fault:  # noqa: BLE001 - likewise
            await reply.error(as_api_error(fault))

    # Lifespan

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        runtime = self.runtime
        loop = asyncio.get_running_loop()
        restore = before_stopping(lambda: loop.call_soon_threadsafe(runtime.spawn_drain))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        restore()
        begin_drain()
        await runtime.stop()
        self._runtime = self._transport = None
        await send({"type": "lifespan.shutdown.complete"})


def as_api_error(fault: Exception) -> ApiError:
    """What the caller is told. Without its traceback, whose frames hold whoever keeps the error:
    a circle around all of a request, which would wait hours for the garbage collector."""
    if isinstance(fault, ApiError):
        return fault.with_traceback(None)
    if isinstance(fault, DatabaseError):
        logger.warning("The database failed a chat request: %s", type(fault).__name__)
        return Unavailable(retry_after=1)
    logger.error("A chat request met a fault of ours", exc_info=fault)
    return ApiError()

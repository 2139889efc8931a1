"""The chat path's own entrance, ahead of Django's handler in the same process.

Django gives each request a thread context and runs its middleware; a stream pays for that many
times over (DESIGN.md, decision 7). So these few paths are answered here, by the same steps as the
DRF views, and everything else goes on to Django.
"""

import asyncio
import contextlib
import gc
import io
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseError

from chatproxy.exchange import CLIENT_LEFT, Exchange, Outcome, error_event, new_exchange
from chatproxy.gate import Call, read_front_end, read_openai
from chatproxy.models import ChatRequest
from chatproxy.relay import KEEP_ALIVE, Live
from chatproxy.runtime import Runtime
from tesslate.lib.errors import ApiError, InvalidRequest, NotFound, TooLarge, Unavailable
from tesslate.lib.lifecycle import begin_drain
from tesslate.lib.logcontext import log_fields

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = dict[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]

MODELS_PATH = "/api/proxy/v1/models"
# Objects made while starting are never garbage: keep the collector from walking them, and from
# running so often that thousands of streams notice (DESIGN.md, decision 7).
GC_THRESHOLDS = (50_000, 20, 100)
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform keeps proxies from compressing, for which they would collect bytes first.
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
JSON_HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
PREFLIGHT_SECONDS = b"86400"


class MethodNotAllowed(InvalidRequest):
    status_code = 405
    code = "method_not_allowed"
    message = "This method is not allowed here."


class InsecureRequest(InvalidRequest):
    status_code = 403
    code = "https_required"
    message = "Use HTTPS."


class ClientLeft(Exception):
    """Before its request was complete."""


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

    async def _enter(
        self, method: str, scope: Scope, receive: Receive, send: Send, route: Route | None
    ) -> None:
        headers: Headers = dict(scope["headers"])
        reply = Reply(send, cors_headers(headers.get(b"origin")))
        if scope["method"] == "OPTIONS":
            await reply.preflight(method)
            return
        exchange = new_exchange(ChatRequest.Client.OPENAI if route is None else route.client)
        reply.request_id = exchange.public_id.encode()
        if scope["method"] != method:
            await reply.error(MethodNotAllowed(), [(b"allow", f"{method}, OPTIONS".encode())])
            return
        with log_fields(request_id=exchange.public_id):
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
            check_transport(scope, headers)
            bearer = await runtime.identities.bearer(scope, headers)
            await runtime.identify(exchange, bearer)
            call = route.read(await read_body(receive, headers))
            live, payload = await runtime.admit(exchange, call)
        except ClientLeft:
            exchange.outcome, exchange.status = Outcome.ABANDONED, CLIENT_LEFT
            runtime.record(exchange)
            return
        except Exception as fault:  # noqa: BLE001 - whatever it is, the caller gets our shape
            error = as_api_error(fault)
            runtime.refuse(exchange, error)
            await reply.error(error)
            return
        live.task = asyncio.current_task()
        watcher = asyncio.create_task(cancel_when_gone(receive, live))
        try:
            await self._serve(live, payload, reply)
        except asyncio.CancelledError:
            if not live.is_cut:
                raise  # the server's own doing
        finally:
            watcher.cancel()

    async def _serve(self, live: Live, payload: bytes, reply: "Reply") -> None:
        relay = self.runtime.relay
        try:
            if live.exchange.is_stream:
                live.on_silence = reply.keep_alive
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
            check_transport(scope, headers)
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
        self._runtime = None
        await send({"type": "lifespan.shutdown.complete"})


class Reply:
    """One response, in the shapes this path has."""

    __slots__ = ("_cors", "_send", "has_started", "request_id")

    def __init__(self, send: Send, cors: HeaderList) -> None:
        self._send = send
        self._cors = cors
        self.has_started = False
        self.request_id = b""

    async def start_stream(self) -> None:
        self.has_started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*STREAM_HEADERS, (b"x-request-id", self.request_id), *self._cors],
            }
        )

    async def send_chunk(self, chunk: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def keep_alive(self) -> None:
        """The gateway thinks long: let proxies in front see that somebody is there."""
        if not self.has_started:
            await self.start_stream()
        await self.send_chunk(KEEP_ALIVE, more=True)

    async def json(self, status: int, body: bytes, extra: HeaderList | None = None) -> None:
        self.has_started = True
        length = str(len(body)).encode()
        headers = [
            *JSON_HEADERS,
            (b"content-length", length),
            (b"x-request-id", self.request_id),
            *self._cors,
            *(extra or ()),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def error(self, error: ApiError, extra: HeaderList | None = None) -> None:
        headers = [
            (name.lower().encode(), value.encode()) for name, value in error.headers().items()
        ]
        if isinstance(error, TooLarge):  # the rest of the body is not read
            headers.append((b"connection", b"close"))
        await self.json(error.status_code, orjson.dumps(error.body()), [*headers, *(extra or ())])

    async def preflight(self, method: str) -> None:
        headers = [*self._cors, (b"content-length", b"0")]
        if self._cors:
            allowed = ", ".join(settings.CORS_ALLOW_HEADERS).encode()
            headers += [
                (b"access-control-allow-methods", f"{method}, OPTIONS".encode()),
                (b"access-control-allow-headers", allowed),
                (b"access-control-max-age", PREFLIGHT_SECONDS),
            ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": b""})


async def read_body(receive: Receive, headers: Headers) -> bytes:
    """Raises TooLarge before reading more than is allowed, and ClientLeft."""
    most = settings.CHAT_MAX_BODY_BYTES
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > most:
        raise TooLarge
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body = message.get("body", b"")
        parts.append(body)
        size += len(body)
        if size > most:
            raise TooLarge
        if not message.get("more_body", False):
            return body if len(parts) == 1 else b"".join(parts)


async def cancel_when_gone(receive: Receive, live: Live) -> None:
    """Runs beside the request; the server tells of a closed connection through ``receive``."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not live.exchange.is_over:
        live.cut()


def cors_headers(origin: bytes | None) -> HeaderList:
    """What django-cors-headers adds on the other paths, from the same settings."""
    if origin is None or not settings.CORS_ALLOWED_ORIGINS:
        return []
    return _cors_headers(origin, tuple(settings.CORS_ALLOWED_ORIGINS))


@lru_cache(maxsize=64)
def _cors_headers(origin: bytes, allowed: tuple[str, ...]) -> HeaderList:
    headers = [(b"vary", b"origin")]
    if origin.decode("latin-1") in allowed:
        headers += [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", ", ".join(settings.CORS_EXPOSE_HEADERS).encode()),
        ]
    return headers


def check_transport(scope: Scope, headers: Headers) -> None:
    """Host and scheme, as SecurityMiddleware and CommonMiddleware see to it on other paths."""
    name, value = settings.SECURE_PROXY_SSL_HEADER
    forwarded = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode(), b"")
    if (
        settings.SECURE_SSL_REDIRECT
        and scope["scheme"] != "https"
        and forwarded.decode("latin-1") != value
    ):
        raise InsecureRequest
    if not _is_our_host(headers.get(b"host", b""), tuple(settings.ALLOWED_HOSTS)):
        raise InvalidRequest("This host name is not served here.")


@lru_cache(maxsize=256)
def _is_our_host(host: bytes, allowed: tuple[str, ...]) -> bool:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"host", host)],
        "query_string": b"",
    }
    try:
        ASGIRequest(scope, io.BytesIO()).get_host()
    except DisallowedHost:
        return False
    return True


def as_api_error(fault: Exception) -> ApiError:
    if isinstance(fault, ApiError):
        return fault
    if isinstance(fault, DatabaseError):
        logger.warning("The database failed a chat request: %s", type(fault).__name__)
        return Unavailable(retry_after=1)
    logger.error("A chat request met a fault of ours", exc_info=fault)
    return ApiError()


def before_stopping(act: Callable[[], object]) -> Callable[[], None]:
    """Have ``act`` done when the process is told to stop; answers how to undo that.

    The server waits for running requests before it says "shutdown" to its application, so the
    signal itself is the only early word. The server's own handler still runs.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        act()
        handler = previous.get(signal.Signals(number))
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)

    def restore() -> None:
        for number, handler in previous.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)

    return restore

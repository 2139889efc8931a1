"""The stand-in as an ASGI application: API, control interface, hosted pages, delivery."""

import asyncio
import hmac
import logging
from collections.abc import Callable

from sandbox.asgi import (
    App,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    answer,
    answer_json,
    header,
    read_body,
)
from sandbox.faults import Sandbox
from sandbox.stripe.api import Request, envelope
from sandbox.stripe.control import Control
from sandbox.stripe.errors import ApiError
from sandbox.stripe.pages import Pages
from sandbox.stripe.service import Service
from sandbox.stripe.settings import Settings

logger = logging.getLogger(__name__)

# How soon after its moment something happens by itself, at the latest.
TICK_SECONDS = 0.5


def build_app(settings: Settings) -> App:
    return app_for(Service(settings))


def app_for(service: Service) -> App:
    def is_ours(scope: Scope) -> bool:
        given = (header(scope, b"authorization") or b"").removeprefix(b"Bearer ")
        return hmac.compare_digest(given, service.settings.secret_key.encode())

    def caller(scope: Scope) -> str | None:
        """For the request log: the client's own idea of its version, never the key."""
        version = header(scope, b"stripe-version")
        return version.decode("latin-1") if version else None

    return Sandbox(
        StripeApp(service, is_ours),
        authorize=is_ours,
        caller=caller,
        envelope=envelope,
        reset=service.reset,
    )


class StripeApp:
    def __init__(self, service: Service, is_ours: Callable[[Scope], bool]) -> None:
        self.service = service
        self.control = Control(service)
        self.pages = Pages(service)
        self.is_ours = is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: str = scope["path"]
        try:
            body = await read_body(receive)
        except ClientGone:
            return
        if path.startswith(("/v1/", "/v2/")):
            await self._api(scope, body, send)
        elif path.startswith("/sandbox/"):
            await self._control(scope, body, send)
        elif path == "/healthcheck":
            await answer(send, 200, b"ok", [(b"content-type", b"text/plain")])
        else:
            form = body.decode("utf-8", "replace")
            page = self.pages.handle(scope["method"], path, form)
            head: Headers = [(b"content-type", b"text/html; charset=utf-8"), *page.headers]
            await answer(send, page.status, page.body, head)

    async def _api(self, scope: Scope, body: bytes, send: Send) -> None:
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        reply = self.service.api.handle(
            Request(
                method=scope["method"],
                path=scope["path"],
                query=scope["query_string"].decode("latin-1"),
                headers=headers,
                body=body,
            )
        )
        head = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
        await answer(send, reply.status, reply.body, head)

    async def _control(self, scope: Scope, body: bytes, send: Send) -> None:
        if not self.is_ours(scope):
            await answer_json(send, 401, {"error": "the sandbox's controls need the secret key"})
            return
        query = scope["query_string"].decode("latin-1")
        try:
            said = await self.control.handle(scope["method"], scope["path"], query, body)
        except ApiError as error:
            await answer_json(send, error.status, error.body())
        except (KeyError, TypeError, ValueError) as problem:
            await answer_json(send, 400, {"error": f"{type(problem).__name__}: {problem}"})
        else:
            await answer_json(send, 200, said)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Deliver and let time pass while the server runs."""
        await receive()
        await self.service.sender.start()
        ticking = asyncio.create_task(self._tick())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ticking.cancel()
        await self.service.sender.stop()
        self.service.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self.service.engine.run_due()
            except Exception:
                logger.exception("something that was due failed")

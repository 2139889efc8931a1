"""Stripe's HTTP interface as one function: request in, reply out. No server, no sockets.

The ASGI app and the in-process transport of the official client both stand on `Api.handle`.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from sandbox.stripe import rendering, routing
from sandbox.stripe.errors import ApiError, RateLimited, Unauthorized, Unavailable
from sandbox.stripe.idempotency import AnswerBook
from sandbox.stripe.params import decode_form
from sandbox.stripe.versions import checked, render_as
from sandbox.stripe.world import NOBODY, Caller, World

Json = dict[str, Any]


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]


class Api:
    def __init__(self, world: World, secret_key: str) -> None:
        self.world = world
        self.secret_key = secret_key
        self.answers = AnswerBook(world)

    def handle(self, request: Request) -> Reply:
        with self.world.lock:
            id = f"req_{self.world.ids.text(14)}"
            try:
                return self._answer(request, id)
            except ApiError as error:
                return self._refusal(error, id)

    def _answer(self, request: Request, id: str) -> Reply:
        self._authenticate(request.headers.get("authorization", ""))
        version = checked(request.headers.get("stripe-version") or self.world.behaviour.api_version)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        headers = {"Stripe-Version": version}
        if key:
            headers["Idempotency-Key"] = key
            before = self.answers.find(key, request.path, request.body)
            if before:
                headers |= {"Idempotent-Replayed": "true", "Original-Request": before.request}
                return _reply(before.status, before.body, id, headers)
        status, body = self._run(request, Caller(id, key, version), version)
        return _reply(status, body, id, headers)

    def _authenticate(self, authorization: str) -> None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                value = ""
        if not value:
            raise Unauthorized(
                "You did not provide an API key. You need to provide your API key in the "
                "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer "
                "YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or "
                "we can help at https://support.stripe.com/."
            )
        if value != self.secret_key:
            masked = f"{value[:8]}{'*' * 12}{value[-4:]}" if len(value) > 20 else "*" * len(value)
            raise Unauthorized(f"Invalid API Key provided: {masked}")

    def _run(self, request: Request, caller: Caller, version: str) -> tuple[int, bytes]:
        found, ids = routing.match(request.method, request.path)
        given = decode_form(request.query)
        if request.method != "GET":
            given |= decode_form(request.body.decode())
        paths = given.get("expand") or []
        self.world.caller = caller
        try:
            if not found.transaction:
                shown = routing.call(self.world, found, ids, given)
                return 200, self._rendered(shown, paths, version)
            status, body = self._run_whole(request, caller, found, ids, given, version)
        finally:
            self.world.caller = NOBODY
        self.world.run_due()
        return status, body

    def _run_whole(
        self,
        request: Request,
        caller: Caller,
        found: routing.Route,
        ids: list[str],
        given: Json,
        version: str,
    ) -> tuple[int, bytes]:
        """What was asked, its answer, and the memory of the answer: one transaction."""
        with self.world.transaction():
            try:
                shown = routing.call(self.world, found, ids, given)
                status, body = 200, self._rendered(shown, given.get("expand") or [], version)
            except ApiError as error:
                if not error.keeps_changes:
                    raise
                status, body = error.status, orjson.dumps(error.body())
            if caller.idempotency_key and caller.id:
                self.answers.keep(
                    caller.idempotency_key, request.path, request.body, status, body, caller.id
                )
        return status, body

    def _rendered(self, shown: Json, paths: list[str], version: str) -> bytes:
        if paths:
            shown = rendering.expand(self.world, shown, paths)
        if shown.get("object") == "event":
            version = shown["api_version"]
        elif shown.get("url") == "/v1/events":
            shown = {
                **shown,
                "data": [render_as(self.world, e, e["api_version"]) for e in shown["data"]],
            }
            return orjson.dumps(shown)
        return orjson.dumps(render_as(self.world, shown, version))

    def _refusal(self, error: ApiError, id: str) -> Reply:
        body = error.body()
        body["error"]["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{id}"
        return _reply(error.status, orjson.dumps(body), id, {})


def envelope(status: int) -> bytes:
    """The body of an answer that a switched-on fault gives instead of ours."""
    error: ApiError = Unavailable(status)
    if status == 429:
        error = RateLimited(
            "Request rate limit exceeded. You can learn more about rate limits here "
            "https://stripe.com/docs/rate-limits.",
            code="rate_limit",
        )
    return orjson.dumps(error.body())


def _reply(status: int, body: bytes, id: str, extra: dict[str, str]) -> Reply:
    return Reply(status, body, {"Content-Type": "application/json", "Request-Id": id, **extra})

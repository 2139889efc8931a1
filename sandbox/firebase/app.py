"""The stand-in as an ASGI application: paths, API key, CORS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson

from sandbox.asgi import (
    App,
    ClientGone,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    answer_json,
    header,
    read_body,
)
from sandbox.faults import Sandbox
from sandbox.firebase import pages
from sandbox.firebase.administration import TOKEN_PATH, Administration
from sandbox.firebase.control import Control
from sandbox.firebase.directory import Directory
from sandbox.firebase.errors import FirebaseError, GatewayRefusal, key_missing, key_wrong
from sandbox.firebase.mailbox import Mailbox
from sandbox.firebase.service import IdentityService, required
from sandbox.firebase.signing import CERTIFICATES_CACHE, CERTIFICATES_SECONDS, KeyRing
from sandbox.state import Journal

# The path as the hosts themselves have it, and as clients write it that put both behind one host.
HOST_PREFIXES = ("/identitytoolkit.googleapis.com", "/securetoken.googleapis.com")
CERTIFICATES_PATH = "/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
ACTION_PATH = "/__/auth/action"
HTML: Headers = [(b"content-type", b"text/html; charset=utf-8")]
CORS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"*"),
]


class Firebase:
    """Routes requests to the service; wrapped by Sandbox and CORS in create_app."""

    def __init__(self, service: IdentityService, certificates_seconds: int) -> None:
        self.service = service
        self.control = Control(service)
        self.administration = Administration(service.project_id, service.directory)
        self.certificates_cache = (CERTIFICATES_CACHE % certificates_seconds).encode()
        self.calls: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "/v1/accounts:signUp": service.sign_up,
            "/v1/accounts:signInWithPassword": service.sign_in_with_password,
            "/v1/accounts:lookup": service.lookup,
            "/v1/accounts:update": service.update,
            "/v1/accounts:delete": service.delete,
            "/v1/accounts:sendOobCode": service.send_oob_code,
            "/v1/accounts:resetPassword": service.reset_password,
            "/v1/token": service.refresh,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._route(scope, receive, send)
        except FirebaseError as error:
            await answer_json(send, error.status, error.as_json())
        except ClientGone:
            return

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], without_host(scope["path"])
        if path in self.calls:
            if method != "POST":
                raise GatewayRefusal(404, "NOT_FOUND", "Requested entity was not found.")
            self._check_key(scope)
            body = await read_fields(scope, receive)
            await answer_json(send, 200, self.calls[path](body))
        elif path == CERTIFICATES_PATH and method in ("GET", "HEAD"):
            certificates = orjson.dumps(self.service.keys.certificates())
            head = [(b"cache-control", self.certificates_cache)]
            await answer(send, 200, certificates if method == "GET" else b"", head)
        elif path == TOKEN_PATH and method == "POST":
            body = await read_fields(scope, receive)
            await answer_json(send, *self.administration.token(body))
        elif path == self.administration.delete_path and method == "POST":
            bearer = (header(scope, b"authorization") or b"").decode("latin-1")
            body = await read_fields(scope, receive)
            await answer_json(send, 200, self.administration.delete(bearer, body))
        elif path.startswith("/sandbox/"):
            await self._control(scope, receive, send)
        elif path == ACTION_PATH and method in ("GET", "POST"):
            await self._action(scope, receive, send)
        elif path == "/" and method == "GET":
            service = self.service
            accounts = list(service.directory)
            html = pages.overview(service.project_id, accounts, service.mailbox.newest_first())
            await answer(send, 200, html.encode(), HTML)
        else:
            raise GatewayRefusal(404, "NOT_FOUND", "Requested entity was not found.")

    def _check_key(self, scope: Scope) -> None:
        given = api_key(scope)
        if not given:
            raise key_missing()
        if given != self.service.api_key:
            raise key_wrong()

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.may_control(scope):
            raise key_missing()
        parts = scope["path"].removeprefix("/sandbox/").split("/")
        body = await read_fields(scope, receive)
        found = self.control.handle(scope["method"], parts, query_of(scope), body)
        if found is None:
            raise FirebaseError("no such route", 404)
        await answer_json(send, *found)

    async def _action(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Where a mailed link leads, unless the product has a page of its own for it."""
        query = query_of(scope)
        try:
            code = required(query, "oobCode", "INVALID_OOB_CODE")
            html = self._acted(scope["method"], query, code, await read_fields(scope, receive))
        except FirebaseError as error:
            html = pages.message("This link does not work", error.message)
        await answer(send, 200, html.encode(), HTML)

    def _acted(self, method: str, query: dict[str, str], code: str, fields: dict[str, Any]) -> str:
        if query.get("mode") == "verifyEmail":
            done = self.service.update({"oobCode": code})
            return pages.message("Address verified", f"{done['email']} is yours.")
        if method == "POST":
            fields = {"oobCode": code, "newPassword": fields.get("newPassword", "")}
            done = self.service.reset_password(fields)
            return pages.message("Password changed", f"Sign in as {done['email']} now.")
        return pages.new_password(self.service.reset_password({"oobCode": code})["email"])

    def may_control(self, scope: Scope) -> bool:
        bearer = (header(scope, b"authorization") or b"").decode("latin-1")
        return self.service.api_key in (bearer.removeprefix("Bearer "), api_key(scope))


def create_app(
    *,
    project_id: str,
    api_key: str,
    data: Path | None = None,
    action_url: str = ACTION_PATH,
    certificates_seconds: int = CERTIFICATES_SECONDS,
) -> App:
    """The whole stand-in; without `data` it forgets everything when it ends."""
    journal = Journal(None if data is None else data / "firebase.sqlite3")
    directory = Directory(journal)
    mailbox = Mailbox(journal, directory)
    service = IdentityService(
        project_id=project_id,
        api_key=api_key,
        keys=KeyRing(journal),
        directory=directory,
        mailbox=mailbox,
        action_url=action_url,
    )
    firebase = Firebase(service, certificates_seconds)

    def reset() -> None:
        directory.clear()
        mailbox.clear()

    sandbox = Sandbox(
        firebase,
        authorize=firebase.may_control,
        caller=lambda scope: None,
        envelope=lambda status: orjson.dumps(
            GatewayRefusal(status, "INTERNAL", "Internal error encountered.").as_json()
        ),
        reset=reset,
    )
    return with_lifespan(with_cors(sandbox), journal)


def with_cors(app: App) -> App:
    """Any page may call, as with Google's hosts."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            wanted = header(scope, b"access-control-request-headers") or b"*"
            allowed = [
                (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
                (b"access-control-allow-headers", wanted),
                (b"access-control-max-age", b"3600"),
            ]
            await answer(send, 200, b"", [*CORS, *allowed])
            return

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *CORS]
            await send(message)

        await app(scope, receive, send_open)

    return wrapped


def with_lifespan(app: App, journal: Journal) -> App:
    """Write down what is pending when the server stops."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        journal.close()
        await send({"type": "lifespan.shutdown.complete"})

    return wrapped


def without_host(path: str) -> str:
    for prefix in HOST_PREFIXES:
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path


def query_of(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def api_key(scope: Scope) -> str:
    found = query_of(scope).get("key")
    return found or (header(scope, b"x-goog-api-key") or b"").decode("latin-1")


async def read_fields(scope: Scope, receive: Receive) -> dict[str, Any]:
    """The body's fields, from JSON or from a form. Raises GatewayRefusal."""
    raw = await read_body(receive)
    if not raw:
        return {}
    kind = header(scope, b"content-type") or b""
    if kind.startswith(b"application/x-www-form-urlencoded"):
        return dict(parse_qsl(raw.decode("latin-1")))
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise GatewayRefusal(
            400, "INVALID_ARGUMENT", "Invalid JSON payload received. Unexpected token."
        )
    return body

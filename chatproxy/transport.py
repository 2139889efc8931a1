"""What Django's middleware sees to on other paths: host, scheme, CORS, size. And the one thing that
no framework tells early enough: that the process is about to stop."""

import io
import signal
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest

from tesslate.lib.errors import InvalidRequest, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = dict[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]


class InsecureRequest(InvalidRequest):
    status_code = 403
    code = "https_required"
    message = "Use HTTPS."


class ClientLeft(Exception):
    """Before its request was complete."""


class Transport:
    """The settings that concern every request, read once."""

    def __init__(self) -> None:
        name, value = settings.SECURE_PROXY_SSL_HEADER
        self._forwarded = name.removeprefix("HTTP_").replace("_", "-").lower().encode()
        self._secure = value.encode()
        self._hosts = tuple(settings.ALLOWED_HOSTS)
        self._wants_https = settings.SECURE_SSL_REDIRECT
        self._most_bytes = settings.CHAT_MAX_BODY_BYTES
        self._origins = frozenset(origin.encode() for origin in settings.CORS_ALLOWED_ORIGINS)
        self._exposed = ", ".join(settings.CORS_EXPOSE_HEADERS).encode()

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raises InsecureRequest, or InvalidRequest for a host that is not ours."""
        if (
            self._wants_https
            and scope["scheme"] != "https"
            and headers.get(self._forwarded) != self._secure
        ):
            raise InsecureRequest
        if not _is_our_host(headers.get(b"host", b""), self._hosts):
            raise InvalidRequest("This host name is not served here.")

    def cors_headers(self, origin: bytes | None) -> HeaderList:
        """What django-cors-headers adds on the other paths, from the same settings."""
        if origin is None or not self._origins:
            return []
        if origin not in self._origins:
            return [(b"vary", b"origin")]
        return [
            (b"vary", b"origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", self._exposed),
        ]

    async def body(self, receive: Receive, headers: Headers) -> bytes:
        """Raises TooLarge before reading more than is allowed, and ClientLeft."""
        most = self._most_bytes
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > most:
            raise TooLarge
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > most:
                raise TooLarge
            return body
        parts: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise TooLarge
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()
        raise ClientLeft


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

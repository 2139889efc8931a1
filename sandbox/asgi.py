"""Raw ASGI in a few functions: the stand-ins answer without a framework between."""

import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")

# Closing with unread or unsent data then sends RST instead of FIN.
LINGER_ZERO = struct.pack("ii", 1, 0)


class ClientGone(Exception):
    """The client closed its connection before the request was complete."""


async def read_body(receive: Receive) -> bytes:
    """The whole request body. Raises ClientGone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def until_disconnect(receive: Receive) -> None:
    """Return once the client has closed its connection (or the answer is complete)."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """Send a complete answer, as JSON where `headers` name no other type."""
    head = [(b"content-length", b"%d" % len(body))]
    if headers:
        head += headers
    if not any(name == b"content-type" for name, _ in head):
        head.append(JSON)
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, status: int, value: object) -> None:
    await answer(send, status, orjson.dumps(value))


def header(scope: Scope, name: bytes) -> bytes | None:
    """One request header's value; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def abort(send: Send) -> None:
    """Reset the connection (RST), whatever was sent so far.

    ASGI has no word for this, so it takes hold of uvicorn's transport behind `send`. On another
    server, or in a test without one, it raises ConnectionResetError instead.
    """
    cycle = getattr(send, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if cycle is None or transport is None:
        raise ConnectionResetError("connection reset by the sandbox")
    connection = transport.get_extra_info("socket")
    # uvloop raises ValueError where the connection is closed already.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    # uvicorn would otherwise report an application that returned without an answer.
    cycle.disconnected = True
    transport.abort()

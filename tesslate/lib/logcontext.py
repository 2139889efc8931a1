"""What a log line belongs to: request, task, Stripe event. Bound once, on every line inside.

Contextvars follow asyncio tasks and sync_to_async threads, so nobody has to pass these on.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType

NOTHING: Mapping[str, str] = MappingProxyType({})
_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=NOTHING)
# What we take over from a caller or proxy: harmless in logs and headers.
ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def current_fields() -> Mapping[str, str]:
    return _fields.get()


def bind(**fields: str) -> Token[Mapping[str, str]]:
    """For hooks that come in pairs; everything else uses log_fields."""
    return _fields.set({**_fields.get(), **fields})


def unbind(token: Token[Mapping[str, str]]) -> None:
    _fields.reset(token)


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    token = bind(**fields)
    try:
        yield
    finally:
        unbind(token)


def request_id_from(header: str | None) -> str:
    """The caller's X-Request-ID where it is well-formed, else a new one."""
    if header is not None and ACCEPTABLE_ID.fullmatch(header):
        return header
    return uuid.uuid4().hex

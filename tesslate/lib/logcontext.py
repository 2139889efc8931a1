"""What a log line belongs to: request, task, Stripe event. Bound once, on every line inside.

Contextvars follow asyncio tasks and sync_to_async threads, so nobody has to pass these on.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType

NOTHING: Mapping[str, str] = MappingProxyType({})
_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=NOTHING)
# What we take over from a caller or proxy: harmless in logs and headers.
ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


_trace_id: Callable[[], str | None] | None = None


def current_fields() -> Mapping[str, str]:
    fields = _fields.get()
    if _trace_id is not None and (trace_id := _trace_id()) is not None:
        return {**fields, "trace_id": trace_id}
    return fields


def trace_id_from(source: Callable[[], str | None] | None) -> None:
    """Put what ``source`` answers on every line from now on; None for no more."""
    global _trace_id
    _trace_id = source


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

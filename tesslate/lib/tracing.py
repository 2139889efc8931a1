"""Spans of our own, where an operator has switched tracing on; nothing at all otherwise.

Whoever makes a span asks ``active()`` first: None means that nobody looks, and costs a comparison.
What implements it (tesslate.telemetry) is imported only when it is asked for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol

Value = str | int | float | bool
Kind = Literal["server", "client"]


class Span(Protocol):
    @property
    def headers(self) -> Mapping[str, str]:
        """What a request to a neighbour carries so that its spans come under this one."""

    def end(self, attributes: Mapping[str, Value], *, error: str = "", name: str = "") -> None:
        """Once: what it came to. ``error`` is a word for the kind of failure, never its text;
        ``name`` a better one than it began with."""


class Tracing(Protocol):
    def begin(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], *, parent: str | None = None
    ) -> Span:
        """A span under the one that is current here; under ``parent`` (a ``traceparent`` header,
        "" for none) where that is given, and then current itself for the rest of this task."""

    def detach(self, span: Span) -> None:
        """The span that began in this very context is no longer current in it."""

    def trace_id(self) -> str | None:
        """Of the current span, in hexadecimal; None where there is none."""


_tracing: Tracing | None = None


def install(tracing: Tracing | None) -> None:
    """From now on this is ``active``; None switches off."""
    global _tracing
    _tracing = tracing


def active() -> Tracing | None:
    return _tracing


class Result:
    """Filled in while a neighbour is asked."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.status = 0


@contextmanager
def asking(method: str, route: str, host: str) -> Iterator[Result]:
    """A call to a neighbour. ``route`` must not name anybody, nor hold a query."""
    if _tracing is None:
        yield Result({})
        return
    span = _tracing.begin(
        f"{method} {route}", "client", {"http.request.method": method, "server.address": host}
    )
    result = Result(span.headers)
    error = ""
    try:
        yield result
    except Exception as fault:
        error = type(fault).__name__
        raise
    finally:
        told = {"http.response.status_code": result.status} if result.status else {}
        span.end(told, error=error or (str(result.status) if result.status >= 500 else ""))

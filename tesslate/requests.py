"""One id and one log line for each request."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from tesslate.lib import tracing
from tesslate.lib.logcontext import log_fields, request_id_from

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
# Asked for every few seconds, of interest to nobody.
QUIET_PREFIXES = ("/health", "/metrics", "/static/")
KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


@sync_and_async_middleware
def request_log(get_response: Any) -> Any:
    """Bind ``request_id`` to every log line of the request and send it back in the answer."""

    def begin(request: HttpRequest) -> tuple[str, float]:
        return request_id_from(request.headers.get(HEADER)), time.perf_counter()

    def finish(
        request: HttpRequest, response: HttpResponse, request_id: str, begun: float
    ) -> HttpResponse:
        # The chat path has an id of its own, under which the request is in the ledger.
        response.setdefault(HEADER, request_id)
        level = logging.DEBUG if request.path.startswith(QUIET_PREFIXES) else logging.INFO
        logger.log(
            level,
            "%s %s %s",
            request.method,
            request.path,
            response.status_code,
            extra={
                "status": response.status_code,
                "duration_ms": round((time.perf_counter() - begun) * 1000, 1),
                "user_id": _user_id(request),
            },
        )
        return response

    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            request_id, begun = begin(request)
            with log_fields(request_id=request_id), _traced(request, request_id) as traced:
                response = await get_response(request)
                traced.append(response.status_code)
                return finish(request, response, request_id, begun)

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponse:
        request_id, begun = begin(request)
        with log_fields(request_id=request_id), _traced(request, request_id) as traced:
            response: HttpResponse = get_response(request)
            traced.append(response.status_code)
            return finish(request, response, request_id, begun)

    return middleware


@contextmanager
def _traced(request: HttpRequest, request_id: str) -> Iterator[list[int]]:
    """A span for the request, where tracing is on; the status goes into the list.

    The route stands for the address, which may name people and hold tokens. The caller's own
    ``traceparent`` is taken over, as W3C's Trace Context has it.
    """
    status: list[int] = []
    tracer = tracing.active()
    if tracer is None or request.path.startswith(QUIET_PREFIXES):
        yield status
        return
    method = request.method if request.method in KNOWN_METHODS else "_OTHER"
    span = tracer.begin(
        method,
        "server",
        {"http.request.method": method, "tesslate.request_id": request_id},
        parent=request.headers.get("traceparent", ""),
    )
    try:
        yield status
    finally:
        told: dict[str, tracing.Value] = {}
        if status:
            told["http.response.status_code"] = status[0]
        name = ""
        if request.resolver_match is not None:
            told["http.route"] = route = f"/{request.resolver_match.route}"
            name = f"{method} {route}"
        if (user_id := _user_id(request)) is not None:
            told["tesslate.user_id"] = user_id
        failed = not status or status[0] >= 500
        tracer.detach(span)
        span.end(told, error=str(status[0] if status else 500) if failed else "", name=name)


# What orchestrators and scrapers ask for, by the address of a single process.
BY_ADDRESS = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})


@sync_and_async_middleware
def known_host(get_response: Any) -> Any:
    """Let probes and scrapers in whatever name they use for us: ALLOWED_HOSTS is about pages, whose
    links follow the name; these answers have none."""

    def rename(request: HttpRequest) -> None:
        if request.path in BY_ADDRESS:
            request.META["HTTP_HOST"] = settings.ALLOWED_HOSTS[0].lstrip(".*") or "localhost"

    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            rename(request)
            response: HttpResponse = await get_response(request)
            return response

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponse:
        rename(request)
        response: HttpResponse = get_response(request)
        return response

    return middleware


def _user_id(request: HttpRequest) -> int | None:
    """Who it was, if somebody already asked: finding out is not worth a query."""
    user = request.__dict__.get("_cached_user")
    return None if user is None else user.pk

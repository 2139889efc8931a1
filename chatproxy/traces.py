"""What a trace tells of a chat request: a span for the request, and one for each attempt at the
gateway. Never a word of prompt or answer, never a key.

Called where tracing is on only, and then at the request's beginning, attempts and end: a stream's
chunks pass by as they do without.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from django.conf import settings

from chatproxy.exchange import Exchange
from tesslate.lib import tracing
from tesslate.lib.tracing import Span, Tracing, Value


def begin_request(tracer: Tracing, exchange: Exchange, path: str, traceparent: bytes) -> None:
    """Current for the rest of the request's task, under the caller's ``traceparent`` if any."""
    exchange.span = tracer.begin(
        f"POST {path}",
        "server",
        {
            "http.request.method": "POST",
            "http.route": path,
            "tesslate.request_id": exchange.public_id,
        },
        parent=traceparent.decode("latin-1"),
    )


def begin_attempt(exchange: Exchange) -> Mapping[str, str]:
    """The headers under which the gateway's own spans become part of the trace."""
    tracer = tracing.active()
    if tracer is None:
        return {}
    if exchange.attempt_span is not None:
        exchange.attempt_span.end({}, error="retried")
    exchange.attempt_span = span = tracer.begin(
        "POST /v1/chat/completions",
        "client",
        {
            "http.request.method": "POST",
            "server.address": urlsplit(settings.LITELLM_URL).hostname or "",
            "tesslate.attempts": exchange.attempts,
        },
    )
    return span.headers


def end_request(exchange: Exchange, span: Span) -> None:
    """When all is known of the exchange, as for the ledger."""
    exchange.span = None
    outcome: dict[str, Value] = {"tesslate.outcome": str(exchange.outcome or "")}
    if exchange.status:
        outcome["http.response.status_code"] = exchange.status
    error = exchange.error_code if exchange.status >= 500 or exchange.outcome == "broken" else ""
    if exchange.attempt_span is not None:
        exchange.attempt_span.end(outcome, error=error)
        exchange.attempt_span = None
    usage = exchange.usage
    span.end(
        {
            **outcome,
            "tesslate.plan": exchange.plan.code if exchange.plan else "",
            "tesslate.attempts": exchange.attempts,
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            **_of_model(exchange),
            **_of_caller(exchange),
        },
        error=error,
    )


def _of_model(exchange: Exchange) -> dict[str, Value]:
    """Once it was asked: before, the name is whatever the caller wrote."""
    if not exchange.attempts:
        return {}
    return {
        "gen_ai.request.model": exchange.model,
        "gen_ai.response.model": exchange.served_model or exchange.model,
    }


def _of_caller(exchange: Exchange) -> dict[str, Value]:
    told: dict[str, Value] = {}
    if exchange.caller is not None:
        told["tesslate.user_id"] = exchange.caller.user_id
    if exchange.first_byte is not None:
        told["tesslate.ttfb_ms"] = max(0, round((exchange.first_byte - exchange.arrived) * 1000))
    return told

"""Traces over OTLP, for those who set OTEL_EXPORTER_OTLP_ENDPOINT.

Spans begin with a request or a task and hold what happens under it: other tasks, statements,
commands to Valkey, calls to the gateway. What leaves is an allow-list of attributes, cleaned like
the log: no addresses, no queries, no exceptions' texts, no bodies, no parameters.
"""

from collections.abc import Mapping, Sequence
from contextvars import Token
from typing import Any

from celery.signals import worker_process_shutdown
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from tesslate.lib import logcontext, tracing
from tesslate.lib.redaction import redact
from tesslate.lib.tracing import Kind, Span, Value

KINDS: Mapping[Kind, SpanKind] = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
# All that is told. Whatever a library adds in its next release stays here until it is looked at.
TOLD = frozenset(
    {
        "celery.action",
        "celery.state",
        "celery.task_name",
        "db.operation.name",
        "db.query.text",
        "db.statement",
        "db.system",
        "db.system.name",
        "error.type",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "messaging.message.id",
        "server.address",
        "tesslate.attempts",
        "tesslate.outcome",
        "tesslate.plan",
        "tesslate.request_id",
        "tesslate.ttfb_ms",
        "tesslate.user_id",
    }
)
LONGEST_TEXT = 1000
# Not baggage: whatever a caller puts there would be handed on to the gateway.
PROPAGATOR = TraceContextTextMapPropagator()
_provider: TracerProvider | None = None
_instrumentors: list[Any] = []


class CleanExporter(SpanExporter):
    """Hands ``exporter`` what may leave of each span."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([clean(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def clean(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=redact(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_told(span.attributes),
        events=[_clean_event(event) for event in span.events if event.name == "exception"],
        links=[Link(link.context) for link in span.links],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _clean_event(event: Event) -> Event:
    """Which exception it was. Its text and its traceback are in the log, under the trace's id."""
    kind = str((event.attributes or {}).get("exception.type", ""))
    return Event("exception", {"exception.type": redact(kind)}, event.timestamp)


def _told(attributes: Attributes) -> dict[str, Any]:
    return {
        name: redact(value)[:LONGEST_TEXT] if isinstance(value, str) else value
        for name, value in (attributes or {}).items()
        if name in TOLD
    }


class Rooted(Sampler):
    """Asks ``sampler``, but for lone calls to a neighbour: what no request and no task asked for (a
    worker that waits for work, a cache that refreshes) would make a trace of its own each time."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        if kind == SpanKind.CLIENT and not parent.is_valid:
            return SamplingResult(Decision.DROP)
        return self._sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"Rooted({self._sampler.get_description()})"


class OpenSpan:
    """A span under way, as tesslate.lib.tracing knows it."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.token: Token[Context] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span))
        return carrier

    def end(self, attributes: Mapping[str, Value], *, error: str = "", name: str = "") -> None:
        self._span.set_attributes(dict(attributes))
        if name:
            self._span.update_name(name)
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def make_current(self, under: Context) -> None:
        self.token = context.attach(trace.set_span_in_context(self._span, under))


class OpenTelemetry:
    """tesslate.lib.tracing.Tracing over the SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("tesslate")

    def begin(
        self, name: str, kind: Kind, attributes: Mapping[str, Value], *, parent: str | None = None
    ) -> Span:
        if parent is None:
            return OpenSpan(
                self._tracer.start_span(name, kind=KINDS[kind], attributes=dict(attributes))
            )
        # Never under what happens to be current: one connection's requests are strangers.
        under = PROPAGATOR.extract({"traceparent": parent}, Context())
        span = OpenSpan(
            self._tracer.start_span(name, under, KINDS[kind], attributes=dict(attributes))
        )
        span.make_current(under)
        return span

    def detach(self, span: Span) -> None:
        if isinstance(span, OpenSpan) and span.token is not None:
            context.detach(span.token)

    def trace_id(self) -> str | None:
        current = trace.get_current_span().get_span_context()
        return f"{current.trace_id:032x}" if current.is_valid else None


def otlp() -> SpanProcessor:
    """Sends in the background, to where the OTEL_EXPORTER_OTLP_* variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(CleanExporter(OTLPSpanExporter()))


def start(processor: SpanProcessor, *, service: str) -> None:
    """Trace this process from now on. The sampler is what OTEL_TRACES_SAMPLER says."""
    global _provider
    _provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    _provider.sampler = Rooted(_provider.sampler)
    _provider.add_span_processor(processor)
    propagate.set_global_textmap(PROPAGATOR)
    for kind in (CeleryInstrumentor, PsycopgInstrumentor, RedisInstrumentor):
        instrumentor: Any = kind()
        instrumentor.instrument(tracer_provider=_provider, skip_dep_check=True)
        _instrumentors.append(instrumentor)
    worker_process_shutdown.connect(flush)
    tracing.install(of_ours := OpenTelemetry(_provider))
    logcontext.trace_id_from(of_ours.trace_id)


def flush(**kwargs: Any) -> None:
    """A worker's process ends without the farewell that a program's end is."""
    if _provider is not None:
        _provider.force_flush()


def stop() -> None:
    """As if ``start`` had never been; for tests."""
    global _provider
    tracing.install(None)
    logcontext.trace_id_from(None)
    worker_process_shutdown.disconnect(flush)
    while _instrumentors:
        _instrumentors.pop().uninstrument()
    if _provider is not None:
        _provider.shutdown()
        _provider = None

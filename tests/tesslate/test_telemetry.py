"""What OpenTelemetry is sent: whole traces, without secrets and without anybody's address."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.signals import before_task_publish
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient
from django.urls import clear_url_caches, path
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from accounts.models import User
from chatproxy.upstream import request_headers
from llmkeys.litellm_client import LiteLLMClient
from llmkeys.litellm_errors import LiteLLMUnavailable
from plans.asgi import WebhookApplication
from tesslate import telemetry, urls
from tesslate.lib import tracing
from tesslate.lib.env import collector_problem, ratio_problem, sampler_problem
from tesslate.lib.logcontext import current_fields

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
CANARY = "the-canary-without-looks"
ADDRESS = "canary@example.com"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def exported(settings) -> Iterator[InMemorySpanExporter]:
    settings.LITELLM_MASTER_KEYS = [CANARY]
    exporter = InMemorySpanExporter()
    telemetry.start(SimpleSpanProcessor(telemetry.CleanExporter(exporter)), service="tests")
    connection.close()  # those made from here on are watched
    yield exporter
    telemetry.stop()
    connection.close()


def told(exporter: InMemorySpanExporter) -> str:
    return json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()])


def with_probe(view: Any) -> list[Any]:
    return [path("probe/<str:secret>", view), *urls.urlpatterns]


@pytest.fixture
def view(monkeypatch) -> Iterator[list[dict[str, str]]]:
    """An address of ours that asks the database for somebody; what its log lines bear."""
    seen: list[dict[str, str]] = []

    def look(request: HttpRequest, secret: str) -> HttpResponse:
        seen.append(dict(current_fields()))
        User.objects.filter(email=secret).first()
        if request.GET.get("fails"):
            raise RuntimeError(f"{secret} {CANARY}")
        return HttpResponse("ok")

    monkeypatch.setattr(urls, "urlpatterns", with_probe(look))
    clear_url_caches()
    yield seen
    clear_url_caches()


@pytest.mark.django_db(transaction=True)
def test_request_comes_under_its_callers_trace_and_its_statements_under_it(client, exported, view):
    response = client.get(f"/probe/{ADDRESS}?token={CANARY}", headers={"traceparent": TRACEPARENT})

    assert response.status_code == 200
    spans = exported.get_finished_spans()
    [request] = [span for span in spans if span.kind == SpanKind.SERVER]
    statements = [span for span in spans if span.attributes.get("db.system") == "postgresql"]
    assert request.name == "GET /probe/<str:secret>"
    assert request.attributes["http.route"] == "/probe/<str:secret>"
    assert request.attributes["http.response.status_code"] == 200
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    assert any("accounts_user" in span.attributes["db.statement"] for span in statements)
    assert {span.parent.span_id for span in statements} == {request.context.span_id}
    assert [fields["trace_id"] for fields in view] == [TRACE]
    assert ADDRESS not in told(exported)
    assert CANARY not in told(exported)


@pytest.mark.django_db(transaction=True)
def test_request_that_breaks_is_marked_and_its_exception_not_quoted(client, exported, view):
    client.raise_request_exception = False
    client.get(f"/probe/{ADDRESS}?fails=1&token={CANARY}")

    [request] = [s for s in exported.get_finished_spans() if s.kind == SpanKind.SERVER]
    assert request.status.status_code == StatusCode.ERROR
    assert ADDRESS not in told(exported)
    assert CANARY not in told(exported)


async def test_request_under_asgi_leaves_nothing_current(exported, view, monkeypatch):
    monkeypatch.setattr(User.objects, "filter", lambda **kwargs: User.objects.none())
    await AsyncClient().get("/probe/x", headers={"traceparent": TRACEPARENT})

    assert [fields["trace_id"] for fields in view] == [TRACE]
    assert "trace_id" not in current_fields()


async def test_webhook_that_is_answered_ahead_of_django_is_a_span_too(exported):
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the webhook's path goes nowhere else")

    transport = httpx.ASGITransport(WebhookApplication(nothing))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.post("/webhooks/stripe", content=CANARY.encode())

    [span] = exported.get_finished_spans()
    assert answer.status_code == 400
    assert span.name == "POST /webhooks/stripe"
    assert span.attributes["http.response.status_code"] == 400
    assert CANARY not in told(exported)


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{'0' * 16}-01"])
def test_caller_without_a_sound_trace_gets_one_of_its_own(exported, client, header, settings):
    client.get("/api/nowhere", headers={"traceparent": header})

    [request] = [s for s in exported.get_finished_spans() if s.kind == SpanKind.SERVER]
    assert request.parent is None
    assert request.context.is_valid


def test_probes_and_scrapes_make_no_traces(exported, client):
    client.get("/health/live")

    assert not exported.get_finished_spans()


def test_gateway_is_asked_under_the_trace_and_its_address_holds_no_key(exported):
    asked: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers)
        return httpx.Response(503, json={"error": {"message": CANARY}})

    client = LiteLLMClient(
        url="http://gateway.example",
        master_keys=[CANARY],
        timeout=1,
        concurrency=1,
        transport=httpx.MockTransport(answer),
    )
    tracer = tracing.active()
    assert tracer is not None
    parent = tracer.begin("test", "server", {}, parent=TRACEPARENT)
    with pytest.raises(LiteLLMUnavailable):
        client.get_key(CANARY)
    parent.end({})
    tracer.detach(parent)

    call = exported.get_finished_spans()[0]
    assert call.name == "GET /key/info"
    assert call.attributes["http.response.status_code"] == 503
    assert call.status.status_code == StatusCode.ERROR
    assert asked[0]["traceparent"] == f"00-{TRACE}-{call.context.span_id:016x}-01"
    assert CANARY not in told(exported)


def test_nothing_is_made_of_lone_calls_to_a_neighbour(exported):
    with tracing.asking("GET", "/health", "gateway.example"):
        pass

    assert not exported.get_finished_spans()


def test_task_runs_under_the_trace_of_whoever_sent_it(exported):
    messages: list[dict[str, Any]] = []

    def keep(headers: dict[str, Any], **kwargs: Any) -> None:
        messages.append(headers)

    app = Celery("tests", broker="memory://", set_as_current=False)
    seen: list[str] = []

    def note(name: str) -> None:
        seen.append(current_fields()["trace_id"])

    work = app.task(name="tests.work")(note)
    tracer = tracing.active()
    assert tracer is not None
    before_task_publish.connect(keep, weak=False)
    parent = tracer.begin("test", "server", {}, parent=TRACEPARENT)
    work.delay(ADDRESS)
    parent.end({})
    tracer.detach(parent)
    before_task_publish.disconnect(keep)
    [message] = messages
    run_task = build_tracer(work.name, work, app=app)
    run_task(message["id"], [ADDRESS], {}, {**message, "called_directly": False})

    sent, ran = (
        next(s for s in exported.get_finished_spans() if s.kind == kind)
        for kind in (SpanKind.PRODUCER, SpanKind.CONSUMER)
    )
    assert f"{ran.context.trace_id:032x}" == TRACE
    assert ran.parent.span_id == sent.context.span_id
    assert ran.attributes["celery.task_name"] == "tests.work"
    assert seen == [TRACE]
    assert "trace_id" not in current_fields()
    assert ADDRESS not in told(exported)


def test_only_attributes_that_were_looked_at_leave(exported):
    tracer = tracing.active()
    assert tracer is not None
    span = tracer.begin(f"GET {ADDRESS}", "server", {"http.url": CANARY}, parent="")
    span._span.record_exception(RuntimeError(CANARY))  # type: ignore[attr-defined]
    span._span.set_status(StatusCode.ERROR, CANARY)  # type: ignore[attr-defined]
    span._span.add_event("prompt", {"text": ADDRESS})  # type: ignore[attr-defined]
    span.end({"gen_ai.request.model": CANARY, "gen_ai.prompt": "text"})
    tracer.detach(span)

    [sent] = exported.get_finished_spans()
    assert sent.name == "GET [email]"
    assert dict(sent.attributes) == {"gen_ai.request.model": "[secret]"}
    assert [dict(event.attributes) for event in sent.events] == [{"exception.type": "RuntimeError"}]
    assert CANARY not in told(exported)


def test_nothing_is_traced_unless_asked_for(client):
    assert tracing.active() is None
    assert b"traceparent" not in request_headers(secret="sk-x", call_id="1")
    client.get("/api/nowhere", headers={"traceparent": TRACEPARENT})
    assert "trace_id" not in current_fields()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"DEBUG": "true", "ENV_FILE": "/dev/null", "DATA_DIR": ".ci/none", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_switched_off_nothing_of_it_is_imported():
    code = (
        "import sys, tesslate.asgi;"
        "print([n for n in sys.modules if n.startswith(('opentelemetry.instrumentation',"
        " 'opentelemetry.exporter', 'tesslate.telemetry'))])"
    )

    assert run(code).stdout.strip() == "[]"


def test_start_without_the_extra_is_refused_with_one_line_that_names_the_variable():
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; sys.argv = ['manage.py', 'check'];"
        "import manage; manage.main()"
    )

    refused = run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318")

    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("OTEL_EXPORTER_OTLP_ENDPOINT: is set, but this build is")
    assert "requirements-otel.txt" in refused.stderr


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (collector_problem, "http://collector:4318", "collector:4318"),
        (sampler_problem, "parentbased_traceidratio", "sometimes"),
        (ratio_problem, "0.01", "2"),
        (ratio_problem, "1", "half"),
    ],
)
def test_value_that_makes_no_sense_is_refused(check, good, bad):
    assert check(good) is None
    assert check(bad)

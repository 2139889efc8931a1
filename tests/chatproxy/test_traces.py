"""A chat request as a trace tells it: where the time went, and not a word of what was said."""

import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llmkeys.models import VirtualKey
from tesslate import telemetry
from tesslate.lib.crypto import decrypt
from tests.chatproxy.conftest import eventually
from tests.chatproxy.gateway import refuses

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SAID = "the-canary-of-a-conversation"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    telemetry.start(SimpleSpanProcessor(telemetry.CleanExporter(exporter)), service="tests")
    yield exporter
    telemetry.stop()


def chat_spans(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The request's span, waited for, and those of its attempts."""

    def request() -> list[ReadableSpan]:
        return [s for s in exporter.get_finished_spans() if s.kind == SpanKind.SERVER]

    [found] = eventually(request)
    attempts = [s for s in exporter.get_finished_spans() if s.name == "POST /v1/chat/completions"]
    return found, attempts


def test_stream_is_one_span_over_one_of_the_gateway(exported, server, gateway):
    body = {"messages": [{"role": "user", "content": SAID}], "selectedModelId": "basic-chat"}
    answer = server.chat(body, headers=server.headers(traceparent=TRACEPARENT))

    assert answer.status_code == 200
    request, [attempt] = chat_spans(exported)
    row = server.row()
    told = dict(request.attributes or {})
    assert f"{request.context.trace_id:032x}" == TRACE
    assert attempt.parent == request.context
    assert gateway.asked[-1].headers["traceparent"].split("-")[1:3] == [
        TRACE,
        f"{attempt.context.span_id:016x}",
    ]
    assert told["tesslate.request_id"] == answer.headers["x-request-id"]
    assert (told["tesslate.plan"], told["tesslate.outcome"]) == ("free", "completed")
    assert told["gen_ai.request.model"] == "basic-chat"
    assert told["http.response.status_code"] == 200
    assert told["gen_ai.usage.output_tokens"] == row.completion_tokens
    assert told["tesslate.user_id"] == row.user_id


def test_trace_holds_no_word_no_key_and_no_address(exported, server, gateway, alice):
    body = {"messages": [{"role": "user", "content": SAID}], "selectedModelId": "basic-chat"}
    server.chat(body)
    server.chat({**body, "selectedModelId": SAID})

    eventually(lambda: len(exported.get_finished_spans()) >= 3)
    told = json.dumps([json.loads(span.to_json()) for span in exported.get_finished_spans()])
    key = VirtualKey.objects.get(user=alice)
    for secret in (SAID, decrypt(key.secret), key.key_hash, server.token, alice.email):
        assert secret not in told


def test_each_attempt_at_the_gateway_is_a_span_of_its_own(exported, server, gateway):
    gateway.script = refuses(503, "unavailable")
    server.chat()

    request, attempts = chat_spans(exported)
    assert [(span.attributes or {})["tesslate.attempts"] for span in attempts] == [1, 2, 3]
    assert {span.status.status_code for span in attempts} == {StatusCode.ERROR}
    assert request.status.status_code == StatusCode.ERROR


def test_refusal_of_ours_is_a_span_without_the_gateway(exported, server):
    answer = server.chat(headers={"authorization": "Bearer nonsense", "traceparent": "nonsense"})

    request, attempts = chat_spans(exported)
    assert answer.status_code == 401
    assert (request.attributes or {})["http.response.status_code"] == 401
    assert request.parent is None
    assert attempts == []


def test_switched_off_a_request_carries_nothing_of_a_trace(server, gateway):
    server.chat(headers=server.headers(traceparent=TRACEPARENT))

    assert "traceparent" not in gateway.asked[-1].headers

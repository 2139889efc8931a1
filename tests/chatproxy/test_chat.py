"""The front end's entrance through a real server."""

from decimal import Decimal

from chatproxy.models import ChatRequest
from tests.chatproxy.conftest import HELLO, events, text_of

Outcome = ChatRequest.Outcome


def test_P01_an_answer_streams_and_ends_with_done(server):
    response = server.chat()
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert text_of(response.text) == "one two three"
    assert events(response.text)[-1] == ("message", "[DONE]")


def test_P01_usage_is_recorded_though_nobody_asked_for_it(server, gateway):
    response = server.chat()
    row = server.row()
    assert (row.prompt_tokens, row.completion_tokens) == (11, 3)
    assert row.cost == Decimal("0.00005")
    assert row.outcome == Outcome.COMPLETED
    assert row.gateway_response_id == "chatcmpl-test"
    assert not row.is_estimated
    assert gateway.last.body["stream_options"] == {"include_usage": True}
    chunks = [data for name, data in events(response.text) if name == "message"]
    assert not any('"usage"' in data for data in chunks)
    assert row.public_id == response.headers["x-request-id"]


def test_the_key_goes_in_and_only_headers_of_ours_reach_the_gateway(server, gateway):
    server.chat(
        headers=server.headers(**{"x-api-key": "sk-other", "cookie": "a=b", "x-litellm-tags": "x"})
    )
    headers = gateway.last.headers
    assert headers["authorization"].startswith("Bearer sk-")
    assert set(headers) == {
        "host", "authorization", "content-type", "content-length", "x-litellm-call-id",
    }  # fmt: skip


def test_defaults_of_the_plan_are_filled_in(server, gateway):
    server.chat()
    assert gateway.last.body["max_tokens"] == 4000
    assert gateway.last.body["temperature"] == 0.7
    assert gateway.last.body["messages"] == HELLO


def test_a_request_without_a_token_is_refused(server, gateway):
    response = server.chat(headers={})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "not_authenticated"
    assert gateway.asked == []


def test_a_model_of_a_higher_plan_names_the_plan(server, gateway):
    response = server.chat({"messages": HELLO, "selectedModelId": "advanced-chat"})
    assert response.status_code == 403
    error = response.json()["error"]
    assert (error["code"], error["upgrade_to"]) == ("model_not_in_plan", "pro")
    assert gateway.asked == []
    assert server.row().outcome == Outcome.REFUSED

"""A gateway that says nothing, or says \"not now\"."""

import json

import pytest

from chatproxy.models import ChatRequest
from tests.chatproxy.conftest import events, text_of
from tests.chatproxy.gateway import USAGE, refuses

Outcome = ChatRequest.Outcome


@pytest.fixture
def impatient(start_server, alice, settings, monkeypatch):
    """A server that looks around all the time, and waits for a second at most."""
    monkeypatch.setattr("chatproxy.runtime.TICK_SECONDS", 0.02)
    settings.CHAT_KEEPALIVE_SECONDS = 0.1
    settings.CHAT_TIMEOUT_SECONDS = 1
    return start_server()


def test_P16_a_silent_stream_gets_comments_and_headers_keep_proxies_from_buffering(
    impatient, gateway
):
    async def thinks(asked, wire):
        await wire.start()
        await wire.say("well ")
        await wire.wait_gone(0.4)
        await wire.say("yes")
        await wire.finish(USAGE)

    gateway.script = thinks
    response = impatient.chat()
    assert response.text.count(": keep-alive\n\n") >= 1
    assert text_of(response.text) == "well yes"
    assert response.headers["x-accel-buffering"] == "no"
    assert "no-transform" in response.headers["cache-control"]
    assert "content-encoding" not in response.headers


def test_P16_a_gateway_that_thinks_before_its_first_byte_keeps_the_client_alive_too(
    impatient, gateway
):
    async def thinks(asked, wire):
        await wire.wait_gone(0.4)
        await refuses(500, "internal_server_error")(asked, wire)

    gateway.script = thinks
    response = impatient.chat()
    assert response.status_code == 200
    assert response.text.startswith(": keep-alive\n\n")
    name, data = events(response.text)[-1]
    assert (name, json.loads(data)["error"]["code"]) == ("error", "provider_error")


def test_P05_a_gateway_that_falls_silent_mid_stream_is_given_up(impatient, gateway):
    async def falls_silent(asked, wire):
        await wire.start()
        await wire.say("well ")
        await wire.wait_gone(10)

    gateway.script = falls_silent
    name, data = events(impatient.chat().text)[-1]
    assert (name, json.loads(data)["error"]["code"]) == ("error", "provider_timeout")
    assert gateway.last.done.wait(5)
    row = impatient.row()
    assert (row.outcome, row.error_code) == (Outcome.BROKEN, "provider_timeout")
    assert row.completion_tokens > 0


def test_P05_a_gateway_that_never_begins_is_given_up(impatient, gateway):
    async def never_begins(asked, wire):
        await wire.wait_gone(10)

    gateway.script = never_begins
    answer = impatient.completions()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "provider_timeout")
    assert gateway.last.done.wait(5)
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_that_is_not_there_for_a_moment_is_asked_again(server, gateway, status):
    gateway.next = [refuses(status, "internal_server_error")]
    assert text_of(server.chat().text) == "one two three"
    assert len(gateway.asked) == 2


def test_U11_a_request_that_took_two_attempts_is_recorded_once(server, gateway):
    gateway.next = [refuses(503, "internal_server_error")]
    server.chat()
    row = server.row()
    assert (row.outcome, row.completion_tokens) == (Outcome.COMPLETED, 3)
    assert row.gateway_call_id == gateway.last.headers["x-litellm-call-id"]


def test_a_connection_reset_before_the_answer_is_asked_again(server, gateway):
    async def resets(asked, wire):
        wire.hang_up()

    gateway.next = [resets]
    assert text_of(server.chat().text) == "one two three"
    assert len(gateway.asked) == 2
    first, second = (asked.headers["x-litellm-call-id"] for asked in gateway.asked)
    assert first != second


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "key_model_access_denied"),
        (422, "budget_exceeded"),
        (500, "internal_server_error"),
    ],
)
def test_what_is_the_callers_answer_is_not_asked_again(server, gateway, status, type):
    gateway.script = refuses(status, type)
    server.chat()
    assert len(gateway.asked) == 1


def test_a_stream_that_broke_is_not_asked_again(server, gateway):
    async def dies(asked, wire):
        await wire.start()
        await wire.say("half")
        wire.hang_up()

    gateway.script = dies
    server.chat()
    assert len(gateway.asked) == 1


def test_a_gateway_that_is_down_is_503(start_server, alice, gateway, settings):
    settings.LITELLM_URL = "http://127.0.0.1:1"
    server = start_server()
    response = server.chat()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "gateway_unavailable"
    assert int(response.headers["retry-after"]) >= 1
    row = server.row()
    assert (row.outcome, row.error_code) == (Outcome.FAILED, "gateway_unavailable")


def test_connections_to_the_gateway_are_reused(server, gateway):
    for _ in range(5):
        server.chat()
    # The end of one answer may cross the next request, and prices are asked for.
    assert gateway.connections <= 3

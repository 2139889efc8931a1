"""A repeat under the same idempotency key: one answer, one charge."""

import threading

import httpx
import pytest

from tesslate.lib.cause import Cause
from tests.chatproxy.conftest import HELLO, eventually, text_of, until_answered
from tests.chatproxy.gateway import USAGE, refuses

CAUSE = Cause.system("test")
BODY = {"messages": HELLO, "selectedModelId": "basic-chat"}


def test_P17_a_repeat_gets_the_same_answer_and_costs_nothing(server, gateway):
    headers = server.headers(**{"idempotency-key": "k-1"})
    first = server.chat(headers=headers)
    second = until_answered(lambda: server.chat(headers=headers))
    assert second.text == first.text
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert len(gateway.asked) == 1
    outcomes = [row.outcome for row in server.rows() if row.status == 200]
    assert outcomes == ["completed", "replayed"]


def test_P17_a_client_that_lost_its_connection_fetches_the_answer_later(server, gateway):
    gone = threading.Event()

    async def slow(asked, wire):
        await wire.start()
        await wire.say("one ")
        while not gone.is_set():
            await wire.wait_gone(0.01)
        await wire.say("two three")
        await wire.finish(USAGE)

    gateway.script = slow
    headers = server.headers(**{"idempotency-key": "k-2"})
    with (
        httpx.Client(base_url=server.url) as client,
        client.stream("POST", "/api/proxy/chat", json=BODY, headers=headers) as response,
    ):
        chunks = response.iter_raw()
        next(chunks)
    busy = server.client.post("/api/proxy/chat", json=BODY, headers=headers)
    assert busy.status_code == 409
    assert busy.json()["error"]["code"] == "request_in_progress"
    gone.set()
    answer = until_answered(
        lambda: server.client.post("/api/proxy/chat", json=BODY, headers=headers)
    )
    assert text_of(answer.text) == "one two three"
    assert len(gateway.asked) == 1
    abandoned = server.rows().get(outcome="abandoned")
    assert (abandoned.prompt_tokens, abandoned.completion_tokens) == (11, 3)


def test_P17_a_failed_request_may_be_repeated(server, gateway):
    gateway.next = [refuses(500, "internal_server_error")]
    headers = server.headers(**{"idempotency-key": "k-3"})
    assert server.chat(headers=headers).status_code == 502
    assert eventually(lambda: server.chat(headers=headers).status_code == 200)


def test_P17_a_key_belongs_to_one_body_and_one_user(server, gateway, firebase, subscribe):
    headers = server.headers(**{"idempotency-key": "k-4"})
    assert server.chat(headers=headers).status_code == 200
    other = {**BODY, "messages": [{"role": "user", "content": "else"}]}
    assert eventually(lambda: server.chat(other, headers=headers).status_code == 422)
    subscribe("bob")
    token = firebase.token("bob", email="bob@example.com")
    theirs = {"authorization": f"Bearer {token}", "idempotency-key": "k-4"}
    answer = server.chat(headers=theirs)
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers


@pytest.mark.parametrize("fail_open", [True, False])
def test_P15_without_the_store_requests_go_on_or_not_by_setting(
    start_server, alice, settings, fail_open
):
    settings.CHAT_IDEMPOTENCY_FAIL_OPEN = fail_open
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    server = start_server()
    response = server.chat(headers=server.headers(**{"idempotency-key": "k-5"}))
    assert response.status_code == (200 if fail_open else 503)
    assert server.chat().status_code == 200

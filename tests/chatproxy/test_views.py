"""The DRF entrance: the same steps behind Django's own handlers."""

import asyncio
import json
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.test import AsyncClient, Client

from chatproxy.bridge import bridge, close_bridge
from chatproxy.models import ChatRequest
from tests.chatproxy.conftest import HELLO, events, text_of
from tests.chatproxy.gateway import USAGE, refuses

BODY = json.dumps({"messages": HELLO, "selectedModelId": "basic-chat"})


@pytest.fixture
def authorization(transactional_db, gateway, firebase, settings, tmp_path, alice):
    settings.LITELLM_URL = gateway.url
    settings.CHAT_SPILL_DIR = str(tmp_path / "spill")
    close_bridge()
    yield f"Bearer {firebase.token('alice', email='alice@example.com')}"
    close_bridge()


def post(authorization, path="/api/proxy/chat", body=BODY, **headers):
    return Client().post(
        path,
        body,
        content_type="application/json",
        headers={"authorization": authorization, **headers},
    )


def row() -> ChatRequest:
    bridge().runtime.ledger.flush()
    return ChatRequest.objects.get()


def test_an_answer_streams_through_the_synchronous_handler(authorization):
    response = post(authorization)
    assert response.status_code == 200
    assert response["content-type"] == "text/event-stream; charset=utf-8"
    assert response["x-accel-buffering"] == "no"
    text = b"".join(response.streaming_content).decode()
    assert text_of(text) == "one two three"
    assert events(text)[-1] == ("message", "[DONE]")
    assert row().public_id == response["x-request-id"]


async def test_an_answer_streams_chunk_by_chunk_through_the_asynchronous_handler(
    authorization, gateway
):
    async def slow(asked, wire):
        await wire.start()
        await wire.say("one ")
        await asyncio.sleep(0.5)
        await wire.say("two")
        await wire.finish(USAGE)

    gateway.script = slow
    response: Any = await AsyncClient().post(
        "/api/proxy/chat",
        BODY,
        content_type="application/json",
        headers={"authorization": authorization},
    )
    arrivals = []
    async for _ in response.streaming_content:
        arrivals.append(time.monotonic())
    assert arrivals[-1] - arrivals[0] > 0.3
    await sync_to_async(connections.close_all)()


def test_a_whole_answer(authorization):
    body = json.dumps({"messages": HELLO, "model": "basic-chat"})
    response = post(authorization, "/api/proxy/v1/chat/completions", body)
    assert response.json()["choices"][0]["message"]["content"] == "one two three"
    assert response["x-request-id"] == row().public_id


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "invalid_json"),
        ('{"messages": [], "selectedModelId": "basic-chat"}', 400, "invalid_request"),
        (BODY.replace("basic", "advanced"), 403, "model_not_in_plan"),
    ],
)
def test_refusals_have_the_one_shape(authorization, body, status, code):
    response = post(authorization, body=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert row().error_code == code


def test_refusals_are_json_for_a_client_that_accepts_event_streams_alone(authorization):
    response = post(authorization, body="{}", accept="text/event-stream")
    assert response.status_code == 400
    assert response["content-type"] == "application/json"


def test_the_gateways_refusals_too(authorization, gateway):
    gateway.script = refuses(429, "throttling_error", rate_limit_type="requests")
    response = post(authorization)
    assert (response.status_code, response.json()["error"]["code"]) == (429, "rate_limit_requests")
    assert int(response["retry-after"]) > 0


def test_nobody_gets_in_without_a_credential(authorization):
    assert post("").status_code == 401
    assert post("Bearer nonsense").status_code == 401


def test_a_repeat_is_answered_from_memory(authorization, gateway):
    headers = {"idempotency-key": "drf-1"}
    first = b"".join(post(authorization, **headers).streaming_content)
    deadline = time.monotonic() + 5
    while (again := post(authorization, **headers)).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert again.content == first
    assert again["idempotent-replayed"] == "true"
    assert len(gateway.asked) == 1


def test_models_are_listed(authorization):
    listed = Client().get("/api/proxy/v1/models", headers={"authorization": authorization})
    assert [model["id"] for model in listed.json()["data"]] == ["basic-chat"]
    one = Client().get("/api/proxy/v1/models/basic-chat", headers={"authorization": authorization})
    assert one.json()["object"] == "model"


def test_djangos_handler_is_what_the_entrance_stands_before():
    from tesslate.asgi import chat

    assert isinstance(chat._django, ASGIHandler)

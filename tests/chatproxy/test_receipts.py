"""What a caller can learn of a request afterwards, and what is kept of a conversation."""

import json

import pytest

from chatproxy.models import ChatContent
from plans.models import Plan
from tesslate.lib.cause import Cause
from tesslate.lib.changes import PLANS, PROMPTS, publish
from tesslate.lib.crypto import decrypt
from tests.chatproxy.conftest import HELLO, events, eventually

CAUSE = Cause.system("test")
BODY = {"messages": HELLO, "selectedModelId": "basic-chat"}


def test_a_receipt_comes_at_the_end_and_can_be_fetched(server, firebase, stranger):
    response = server.chat()
    receipt = next(json.loads(data) for name, data in events(response.text) if name == "usage")
    assert receipt["usage"] == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    assert receipt["choices"] == []
    assert receipt["id"] == response.headers["x-request-id"]
    server.flush()
    path = f"/api/usage/requests/{receipt['id']}"
    fetched = server.client.get(path, headers=server.headers())
    assert fetched.status_code == 200
    assert fetched.json()["total_tokens"] == 14
    assert fetched.json()["cost"] == receipt["cost"] or float(fetched.json()["cost"]) == 0.00005
    other = {"authorization": f"Bearer {firebase.token(stranger.firebase_uid, email='m@x.org')}"}
    assert server.client.get(path, headers=other).status_code == 404


def test_an_aborted_streams_receipt_carries_its_price(server, gateway):
    async def talks(asked, wire):
        await wire.start()
        for _ in range(10):
            await wire.say("token ")
        await wire.wait_gone(10)

    gateway.script = talks
    eventually(lambda: server.runtime.rates.cost("basic-chat", 1, 1) is not None)
    with server.stream() as response:
        received = b""
        for data in response.iter_raw():
            received += data
            if received.count(b"token ") >= 5:
                break
    server.client.close()
    row = server.row()
    assert row.is_estimated
    assert float(row.cost) == pytest.approx(row.prompt_tokens * 1e-6 + row.completion_tokens * 2e-6)
    assert row.decision["abort_policy"] == "delivered"


def test_conversations_are_kept_encrypted_only_where_the_plan_says_so(server, gateway, plans):
    assert server.chat().status_code == 200
    assert not ChatContent.objects.exists()
    Plan.objects.update(stores_content=True)
    publish(kinds=[PLANS, PROMPTS])
    assert eventually(
        lambda: server.chat() and eventually(ChatContent.objects.exists, 0.3), seconds=5
    )
    content = ChatContent.objects.all()[0]
    assert "one two" not in content.encrypted
    assert json.loads(decrypt(content.encrypted)) == {"messages": HELLO, "answer": "one two three"}

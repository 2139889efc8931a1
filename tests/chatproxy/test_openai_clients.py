"""Real clients: OpenAI's own, and curl."""

import importlib
import json
import shutil
import subprocess

import pytest

from tests.chatproxy.conftest import HELLO
from tests.chatproxy.gateway import USAGE, answers_whole, chunk, refuses


@pytest.fixture(scope="module")
def openai():
    """Imported where it is used: all that it brings costs every test process 0.7 s."""
    return importlib.import_module("openai")


@pytest.fixture
def client(server, openai):
    with openai.OpenAI(
        base_url=f"{server.url}/api/proxy/v1", api_key=server.token, max_retries=0
    ) as client:
        yield client


def test_a_whole_answer(client):
    answer = client.chat.completions.create(model="basic-chat", messages=HELLO)
    assert answer.choices[0].message.content == "one two three"
    assert answer.usage.total_tokens == 14


def test_a_stream(client, server):
    stream = client.chat.completions.create(model="basic-chat", messages=HELLO, stream=True)
    chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == "one two three"
    assert all(one.usage is None for one in chunks)
    assert server.row().client == "openai"


def test_a_stream_with_the_usage_it_asked_for(client):
    stream = client.chat.completions.create(
        model="basic-chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    last = list(stream)[-1]
    assert last.choices == []
    assert last.usage.total_tokens == 14


def test_tool_calls_pass_both_ways(client, gateway):
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":'},
    }

    async def calls(asked, wire):
        await wire.start()
        await wire.frame(chunk(delta={"role": "assistant", "content": None, "tool_calls": [call]}))
        more = {"index": 0, "function": {"arguments": '"Oslo"}'}}
        await wire.frame(chunk(delta={"tool_calls": [more]}))
        await wire.frame(chunk(delta={}, finish_reason="tool_calls"))
        await wire.frame({**chunk(), "choices": [], "usage": USAGE})
        await wire.send("data: [DONE]\n\n")
        await wire.end()

    gateway.script = calls
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    stream = client.chat.completions.create(
        model="basic-chat", messages=HELLO, tools=tools, tool_choice="auto", stream=True
    )
    arguments = "".join(
        one.choices[0].delta.tool_calls[0].function.arguments
        for one in stream
        if one.choices[0].delta.tool_calls
    )
    assert json.loads(arguments) == {"city": "Oslo"}
    assert gateway.last.body["tools"] == tools


def test_json_mode_images_and_unknown_fields_pass(client, gateway):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}]
    client.chat.completions.create(
        model="basic-chat",
        messages=messages,
        response_format={"type": "json_object"},
        logprobs=True,
        n=2,
        extra_body={"next_years_field": 1, "metadata": {"forged": "yes"}},
    )
    sent = gateway.last.body
    assert sent["messages"] == messages
    assert sent["response_format"] == {"type": "json_object"}
    assert (sent["logprobs"], sent["n"], sent["next_years_field"]) == (True, 2, 1)
    assert "metadata" not in sent


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (refuses(429, "throttling_error", rate_limit_type="requests"), "RateLimitError"),
        (refuses(500, "internal_server_error"), "InternalServerError"),
        (refuses(400, "invalid_request_error"), "BadRequestError"),
    ],
)
def test_errors_are_the_ones_the_client_knows(client, openai, gateway, script, error):
    gateway.script = script
    with pytest.raises(getattr(openai, error)):
        client.chat.completions.create(model="basic-chat", messages=HELLO)


def test_what_the_client_is_told_of_a_missing_model(client, openai):
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model="advanced-chat", messages=HELLO)
    assert refused.value.code == "model_not_in_plan"
    assert refused.value.response.json()["error"]["upgrade_to"] == "pro"


def test_P04_a_broken_stream_raises_in_the_client(client, openai, gateway):
    async def dies(asked, wire):
        await wire.start()
        await wire.say("half")
        wire.hang_up()

    gateway.script = dies
    stream = client.chat.completions.create(model="basic-chat", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        list(stream)


def test_leaving_a_stream_cancels_it_at_the_gateway(client, gateway):
    async def talks(asked, wire):
        await wire.start()
        for _ in range(3):
            await wire.say("token ")
        await wire.wait_gone(10)

    gateway.script = talks
    with client.chat.completions.create(model="basic-chat", messages=HELLO, stream=True) as stream:
        next(iter(stream))
    assert gateway.last.done.wait(5)
    assert gateway.last.cancelled_at is not None


def test_models_are_listed_and_retrieved(client, openai):
    assert [model.id for model in client.models.list()] == ["basic-chat"]
    assert client.models.retrieve("basic-chat").id == "basic-chat"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_whole_answers_with_fields_we_do_not_know_are_left_as_they_are(client, gateway):
    async def answers(asked, wire):
        await answers_whole(asked, wire, reasoning="because")

    gateway.script = answers
    answer = client.chat.completions.create(model="basic-chat", messages=HELLO)
    assert answer.reasoning == "because"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sees_chunks_and_the_end(server):
    command = [
        *["curl", "-sSN", f"{server.url}/api/proxy/chat"],
        *["-H", f"Authorization: Bearer {server.token}", "-H", "Content-Type: application/json"],
        *["-d", json.dumps({"messages": HELLO, "selectedModelId": "basic-chat"})],
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out.endswith("data: [DONE]\n\n")

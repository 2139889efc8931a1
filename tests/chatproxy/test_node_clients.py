"""Real clients in JavaScript: a page's fetch reader, and OpenAI's client for Node.

Node comes with Playwright. OpenAI's package is fetched by `make contract` where npm is installed
(the Makefile's NODE_CLIENTS); without it those tests are skipped.
"""

import json
import subprocess
from pathlib import Path

import playwright
import pytest

from tests.chatproxy.gateway import USAGE, chunk, refuses

ROOT = Path(__file__).resolve().parents[2]
NODE = Path(playwright.__file__).parent / "driver" / "node"
PACKAGES = ROOT / ".tools" / "node_clients"
FOLDER = Path(__file__).parent / "node"


def run_node(*arguments: str | Path) -> str:
    command = [str(word) for word in (NODE, *arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_pages_fetch_reader_reads_it(server):
    text = run_node(FOLDER / "fetch_reader.mjs", server.url, server.token)
    assert text.strip() == "one two three"


@pytest.fixture
def ask(server):
    """Run one of openai_client.mjs's scenarios; its outcome."""
    if not (PACKAGES / "node_modules" / "openai").is_dir():
        pytest.skip("OpenAI's package for Node is not here: `make contract` fetches it with npm")
    # Modules are looked for beside the script.
    script = PACKAGES / "openai_client.mjs"
    script.write_bytes((FOLDER / script.name).read_bytes())
    return lambda scenario: json.loads(run_node(script, server.url, server.token, scenario))


@pytest.mark.contract
def test_openai_a_whole_answer(ask):
    assert ask("whole") == {"text": "one two three", "tokens": 14}


@pytest.mark.contract
def test_openai_a_stream(ask, server):
    found = ask("stream")
    assert (found["text"], found["usage"]) == ("one two three", None)
    assert (server.row().client, server.row().total_tokens) == ("openai", 14)


@pytest.mark.contract
def test_openai_a_stream_with_the_usage_it_asked_for(ask):
    assert ask("streamWithUsage")["usage"]["total_tokens"] == 14


@pytest.mark.contract
def test_openai_tool_calls_pass_both_ways(ask, gateway):
    async def calls(asked, wire):
        await wire.start()
        for arguments in ('{"city":', '"Oslo"}'):
            call = {"index": 0, "function": {"name": "weather", "arguments": arguments}}
            await wire.frame(chunk(delta={"tool_calls": [call]}))
        await wire.frame(chunk(delta={}, finish_reason="tool_calls"))
        await wire.frame({**chunk(), "choices": [], "usage": USAGE})
        await wire.send("data: [DONE]\n\n")
        await wire.end()

    gateway.script = calls
    assert json.loads(ask("tools")["arguments"]) == {"city": "Oslo"}
    assert gateway.last.body["tools"][0]["function"]["name"] == "weather"


@pytest.mark.contract
def test_openai_json_mode_images_and_unknown_fields_pass(ask, gateway):
    assert ask("extras") == {}
    sent = gateway.last.body
    assert [part["type"] for part in sent["messages"][0]["content"]] == ["text", "image_url"]
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["next_years_field"] == 1


@pytest.mark.contract
def test_openai_errors_are_the_ones_the_client_knows(ask, gateway, server):
    gateway.script = refuses(429, "throttling_error", rate_limit_type="requests")
    assert ask("whole") == {
        "error": "RateLimitError",
        "code": "rate_limit_requests",
        "requestId": server.row().public_id,
    }


@pytest.mark.contract
def test_openai_P04_a_broken_stream_raises_in_the_client(ask, gateway):
    async def dies(asked, wire):
        await wire.start()
        await wire.say("half")
        wire.hang_up()

    gateway.script = dies
    found = ask("stream")
    assert (found["error"], found["code"]) == ("APIError", "stream_broken")


@pytest.mark.contract
def test_openai_models_are_listed(ask):
    assert ask("models") == {"ids": ["basic-chat"]}


@pytest.mark.contract
def test_openai_leaving_a_stream_cancels_it_at_the_gateway(ask, gateway):
    async def talks(asked, wire):
        await wire.start()
        await wire.say("token ")
        await wire.wait_gone(20)

    gateway.script = talks
    ask("leaves")
    assert gateway.last.done.wait(5)
    assert gateway.last.cancelled_at is not None

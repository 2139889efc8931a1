"""Estimates, for requests of which the gateway tells no usage."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from chatproxy.live import Live
from chatproxy.tally import TOKENS_PER_ATTACHMENT, estimated_prompt_tokens


def estimate(*messages: dict[str, Any], tools: object = None, prompt_bytes: int = 0) -> int:
    live = SimpleNamespace(messages=list(messages), tools=tools, prompt_bytes=prompt_bytes)
    return estimated_prompt_tokens(cast(Live, live))


def test_four_bytes_are_a_token_and_a_message_takes_four():
    assert estimate({"role": "user", "content": "x" * 40}) == 14
    assert estimate({"role": "user", "content": "é" * 20}) == 14


def test_our_own_prompts_count_as_a_message():
    assert estimate({"role": "user", "content": "x" * 40}, prompt_bytes=400) == 14 + 100 + 4


def test_an_image_counts_as_an_image_and_not_as_its_bytes():
    url = "data:image/png;base64," + "A" * 1_000_000
    image = {"type": "image_url", "image_url": {"url": url}}
    text = {"type": "text", "text": "x" * 40}
    found = estimate({"role": "user", "content": [text, image]})
    assert found == 14 + TOKENS_PER_ATTACHMENT


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "user", "content": ""},
        {"role": "user", "content": []},
    ],
)
def test_a_message_without_content_is_a_message(message):
    assert estimate(message) == 4


def test_tools_and_calls_of_them_count():
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    calls = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    plain = estimate({"role": "user", "content": "hi"})
    assert estimate({"role": "user", "content": "hi"}, tools=tools) > plain + 10
    assert estimate({"role": "assistant", "content": None, "tool_calls": calls}) > 4 + 10

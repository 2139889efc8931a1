"""What the models say, and how many tokens that is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.litellm import frames, tokens
from sandbox.litellm.replies import compose
from sandbox.litellm.structured import instance


def ask(question: str = "How do tuples differ from lists?", **more: object) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": question},
    ]
    return {"model": "m", "messages": messages, **more}


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens.split(text)) == text
    assert tokens.count(text) == len(tokens.split(text))


def test_longer_prompts_are_more_tokens_and_images_count() -> None:
    short = [{"role": "user", "content": "Hi"}]
    long = [*short, {"role": "assistant", "content": "Hello!"}, *short]
    assert tokens.count_prompt(short) < tokens.count_prompt(long)
    text = {"type": "text", "text": "Hi"}
    image = {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}
    plain = tokens.count_prompt([{"role": "user", "content": [text]}])
    assert plain == tokens.count_prompt(short)
    assert tokens.count_prompt([{"role": "user", "content": [text, image]}]) == plain + 85


def test_answer_is_about_the_question_several_sentences_and_the_same_each_time() -> None:
    one, two = compose(ask(), None), compose(ask(), None)
    assert one == two
    assert "How do tuples differ from lists?" in one[0].text
    assert one[0].text.count(".") >= 4
    assert one[0].finish_reason == "stop"
    assert compose(ask("Something else"), None)[0].text != one[0].text


def test_several_answers_differ() -> None:
    choices = compose(ask(n=3), None)
    assert len({choice.text for choice in choices}) == 3


def test_cap_and_stop_cut_the_answer() -> None:
    capped = compose(ask(), 5)[0]
    assert (len(capped.pieces), capped.finish_reason) == (5, "length")
    whole = compose(ask(), None)[0].text
    word = whole.split()[5]
    stopped = compose(ask(stop=["never said", word]), None)[0]
    assert stopped.text == whole[: whole.index(word)]
    assert stopped.finish_reason == "stop"
    assert compose(ask(stop=word), None)[0].text == stopped.text


def test_code_is_answered_with_code() -> None:
    assert "```html" in compose(ask("Write a login page component"), None)[0].text


def tool(name: str = "get_weather", **properties: object) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": properties}},
    }


@pytest.mark.parametrize(
    ("question", "choice", "called"),
    [
        ("What is the weather in Oslo?", None, "get_weather"),
        ("Hello", None, None),
        ("Hello", "required", "get_weather"),
        ("What is the weather?", "none", None),
        ("Hello", {"type": "function", "function": {"name": "send_mail"}}, "send_mail"),
    ],
)
def test_tool_is_called_when_asked_for(question: str, choice: object, called: str | None) -> None:
    tools = [tool(city={"type": "string"}), tool("send_mail", to={"type": "string"})]
    made = compose(ask(question, tools=tools, tool_choice=choice), None)[0]
    assert (made.tool[0] if made.tool else None) == called
    if called:
        assert made.finish_reason == "tool_calls"
        assert isinstance(json.loads(made.text), dict)


def test_result_of_a_tool_is_answered_in_words() -> None:
    body = ask("What is the weather?", tools=[tool()])
    body["messages"].append({"role": "tool", "content": "Rain, 4 degrees", "tool_call_id": "c"})
    made = compose(body, None)[0]
    assert made.tool is None
    assert "Rain, 4 degrees" in made.text


def test_json_mode_and_schema() -> None:
    loose = compose(ask(response_format={"type": "json_object"}), None)[0]
    assert set(json.loads(loose.text)) == {"answer", "next_steps"}
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["bug", "wish"]},
            "count": {"type": "integer", "minimum": 3},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
        },
        "$defs": {"part": {"type": "object", "properties": {"ok": {"type": "boolean"}}}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    strict = json.loads(compose(ask(response_format=wanted), None)[0].text)
    assert strict == {"kind": "bug", "count": 3, "maybe": None, "parts": [{"ok": True}]}


def test_schema_that_refers_to_itself_ends() -> None:
    node: dict[str, Any] = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert isinstance(instance(node, "x"), dict)


@given(st.text(min_size=1), st.integers(1, 40))
def test_frames_say_what_the_pieces_say(question: str, cap: int) -> None:
    choice = compose(ask(question), cap)[0]
    made = frames.Stream("chatcmpl-1", 1, "m").frames(0, choice)
    assert len(made) == len(choice.pieces)
    deltas = [json.loads(frame.removeprefix(b"data: "))["choices"][0]["delta"] for frame in made]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta["content"] for delta in deltas) == choice.text

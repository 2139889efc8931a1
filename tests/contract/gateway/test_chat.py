"""Chat through the gateway: answers, streams, headers, and a provider that fails."""

import time

import httpx
import pytest

from tests.contract.gateway.conftest import ON_FREE, Gateway, unique

pytestmark = pytest.mark.contract


def refused(answer: httpx.Response, status: int, kind: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["type"] == kind
    assert answer.headers["content-type"] == "application/json"


def test_answer_names_our_model_and_counts_its_tokens(gateway: Gateway) -> None:
    answer = gateway.chat(gateway.key())
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == ON_FREE
    choice = body["choices"][0]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    usage = body["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_headers_tell_call_model_cost_and_spend(gateway: Gateway) -> None:
    key = gateway.key(max_budget=3, rpm_limit=100, tpm_limit=100000)
    answer = gateway.chat(key)
    head = answer.headers
    assert head["x-litellm-call-id"]
    assert head["x-litellm-model-id"]
    assert head["x-litellm-model-group"] == ON_FREE
    assert head["x-litellm-key-max-budget"] == "3.0"
    assert head["x-litellm-key-rpm-limit"] == "100"
    assert head["x-litellm-key-tpm-limit"] == "100000"
    cost = float(head["x-litellm-response-cost"])
    assert cost > 0
    assert float(head["x-litellm-key-spend"]) >= 0
    assert head["x-litellm-attempted-fallbacks"] == "0"


def test_call_id_of_ours_is_kept(gateway: Gateway) -> None:
    name = unique("call")
    answer = gateway.chat(gateway.key(), headers={"x-litellm-call-id": name})
    assert answer.headers["x-litellm-call-id"] == name


def test_both_paths_answer(gateway: Gateway) -> None:
    body = {"model": ON_FREE, "messages": [{"role": "user", "content": "hi"}]}
    answer = gateway.ask("POST", "/chat/completions", body, key=gateway.key())
    assert answer.status_code == 200


def test_stream_is_sent_in_frames_and_ends_with_done(gateway: Gateway) -> None:
    streamed = gateway.stream(gateway.key())
    head = streamed.answer.headers
    assert streamed.answer.status_code == 200
    assert head["content-type"] == "text/event-stream; charset=utf-8"
    assert head["x-litellm-call-id"]
    assert "content-length" not in head
    assert streamed.data[-1] == "[DONE]"
    frames = streamed.frames
    assert len(frames) > 5
    assert len({frame["id"] for frame in frames}) == 1
    assert {frame["object"] for frame in frames} == {"chat.completion.chunk"}
    assert {frame["model"] for frame in frames} == {ON_FREE}
    assert frames[0]["choices"][0]["delta"]["role"] == "assistant"
    assert frames[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in frame for frame in frames)
    assert len(streamed.text) > 40


def test_stream_with_usage_ends_in_a_frame_with_usage_and_cost(gateway: Gateway) -> None:
    streamed = gateway.stream(gateway.key(), stream_options={"include_usage": True})
    last = streamed.frames[-1]
    # 1.106 sends a choice with an empty delta along, 1.109 none.
    assert all(choice["delta"] == {} for choice in last["choices"])
    usage = last["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] > 5
    assert usage["cost"] > 0
    assert all(not frame.get("usage") for frame in streamed.frames[:-1])


def test_stream_and_whole_answer_cost_the_same(gateway: Gateway) -> None:
    key = gateway.key()
    streamed = gateway.stream(key, stream_options={"include_usage": True})
    whole = gateway.chat(key).json()
    assert streamed.text == whole["choices"][0]["message"]["content"]
    usage = streamed.frames[-1]["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert usage[name] == whole["usage"][name]


def test_max_tokens_cuts_the_answer(gateway: Gateway) -> None:
    body = gateway.chat(gateway.key(), max_tokens=7).json()
    assert body["usage"]["completion_tokens"] == 7
    assert body["choices"][0]["finish_reason"] == "length"


def test_stop_and_several_answers(gateway: Gateway) -> None:
    key = gateway.key()
    choices = gateway.chat(key, n=2).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    word = choices[0]["message"]["content"].split()[3]
    cut = gateway.chat(key, stop=[word]).json()["choices"][0]
    assert word not in cut["message"]["content"]
    assert cut["finish_reason"] == "stop"


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


def test_tools_are_called(gateway: Gateway) -> None:
    key = gateway.key()
    choice = gateway.chat(key, tools=[WEATHER], tool_choice="required").json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert call["type"] == "function"
    assert call["function"]["name"] == "get_weather"
    assert '"city"' in call["function"]["arguments"]
    streamed = gateway.stream(key, tools=[WEATHER], tool_choice="required")
    parts = [
        tool
        for frame in streamed.frames
        for piece in frame["choices"]
        for tool in piece["delta"].get("tool_calls") or []
    ]
    assert parts[0]["function"]["name"] == "get_weather"
    arguments = "".join(part["function"].get("arguments") or "" for part in parts)
    assert arguments == call["function"]["arguments"]


def test_json_mode_answers_json(gateway: Gateway) -> None:
    answer = gateway.chat(gateway.key(), response_format={"type": "json_object"}).json()
    assert answer["choices"][0]["message"]["content"].startswith("{")


def test_images_are_accepted_and_counted(gateway: Gateway) -> None:
    key = gateway.key()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    answer = gateway.chat(key, messages=messages)
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] > 100


def test_requests_that_make_no_sense_are_400(gateway: Gateway) -> None:
    key = gateway.key()
    body = {"messages": [{"role": "user", "content": "hi"}]}

    def ask(request: object) -> httpx.Response:
        return gateway.ask("POST", "/v1/chat/completions", request, key=key)

    refused(ask({"model": ON_FREE}), 400, "invalid_request_error")
    refused(ask({**body}), 400, "invalid_request_error")
    refused(ask({**body, "model": [ON_FREE]}), 400, "bad_request_error")
    refused(ask({"model": ON_FREE, "messages": "hi"}), 400, "invalid_request_error")
    headers = {"Authorization": f"Bearer {key.value}", "content-type": "application/json"}
    broken = gateway.http.post("/v1/chat/completions", content=b'{"model"', headers=headers)
    refused(broken, 400, "invalid_request_error")


def test_unknown_parameters_are_no_error(gateway: Gateway) -> None:
    assert gateway.chat(gateway.key(), user="someone", seed=7).status_code == 200


# A provider that fails. None of this is the fault of the user's key.


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, "internal_server_error"), (429, "throttling_error"), (401, "authentication_error")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_provider_refuses(provider: Gateway, status: int, kind: str, stream: bool) -> None:
    provider.provider_does_wrong(kind="status", status=status)
    answer = provider.chat(provider.key(), stream=stream)
    refused(answer, status, kind)
    # That header tells a plan's limit from a provider's.
    assert "rate_limit_type" not in answer.headers


@pytest.mark.parametrize("kind", ["stream_error", "stream_break", "garbage"])
def test_provider_breaks_in_mid_stream(provider: Gateway, kind: str) -> None:
    provider.provider_does_wrong(kind=kind, after_chunks=4)
    streamed = provider.stream(provider.key())
    assert streamed.answer.status_code == 200
    # 1.109 ends even this with [DONE], 1.106 does not, nor does it name a type: that a stream
    # failed is told by a frame with an error in it, and by nothing else.
    error = streamed.frames[-1]["error"]
    assert error["code"] == "500"
    assert error["message"]
    assert streamed.text


def test_provider_that_answers_nothing_is_a_timeout(provider: Gateway) -> None:
    provider.provider_does_wrong(kind="timeout", delay=3.5)
    refused(provider.chat(provider.key()), 408, "invalid_request_error")


@pytest.mark.parametrize("kind", ["reset", "garbage"])
def test_provider_that_cannot_be_understood_is_a_500(provider: Gateway, kind: str) -> None:
    provider.provider_does_wrong(kind=kind)
    refused(provider.chat(provider.key()), 500, "internal_server_error")


def test_client_that_leaves_is_let_go(gateway: Gateway) -> None:
    key = gateway.key(max_parallel_requests=1)
    headers = {"Authorization": f"Bearer {key.value}"}
    body = {"model": ON_FREE, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_lines())
    deadline = time.monotonic() + 5
    while gateway.chat(key).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)

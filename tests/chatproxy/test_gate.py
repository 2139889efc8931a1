"""The gate as tables: what is let in, and what the gateway gets."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from accounts.models import User  # noqa: F401 - Django must be ready before the product's modules
from chatproxy.callers import Caller
from chatproxy.catalogue import Catalogue, PlanTerms
from chatproxy.errors import BadJson, MessagesTooLarge, UnknownModel
from chatproxy.gate import (
    DENIED,
    MOST_MESSAGES,
    MOST_TEXT,
    admit,
    compose,
    read_front_end,
    read_openai,
    refuse_model,
)
from chatproxy.prompts import EMPTY, Rendered
from llmkeys.credentials import Credential
from plans.models import Plan
from tesslate.lib.errors import ApiError, InvalidRequest

Policy = Plan.ClientSystemMessages
HELLO = {"role": "user", "content": "hi"}
FREE = PlanTerms(
    id=1,
    code="free",
    rank=0,
    is_public=True,
    models=frozenset({"basic"}),
    rpm=20,
    tpm=20_000,
    max_parallel_requests=2,
    budget_cents=100,
    default_max_tokens=4000,
    max_tokens_ceiling=8000,
    default_temperature=0.7,
    temperature_ceiling=1.5,
    client_system_messages=Policy.ALLOW,
    abort_billing="delivered",
    stores_content=False,
)
PRO = replace(FREE, id=2, code="pro", rank=20, models=frozenset({"basic", "big"}))
CATALOGUE = Catalogue({1: FREE, 2: PRO}, frozenset({"basic", "big", "gone"}), frozenset({"gone"}))
CALLER = Caller(
    user_id=7,
    name="Alice",
    organization_id=None,
    plan_id=1,
    limit_percent=100,
    period_end=datetime(2026, 12, 1, tzinfo=UTC),
    entitlement_version=1,
    credential=Credential(1, "sk-x", "h", "active"),
    refusal=None,
)
OURS = Rendered("Be kind.", (5,), b'"Be kind."')


def body(**content):
    return json.dumps({"messages": [HELLO], "model": "basic", **content}).encode()


def composed(prompts=EMPTY, plan=FREE, **content):
    return json.loads(compose(read_openai(body(**content)), plan, prompts))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"{'a': 1}", b"NaN"])
def test_what_is_no_json_object_is_refused(raw):
    with pytest.raises(BadJson):
        read_openai(raw)


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [HELLO, {"role": "root", "content": "x"}]}, "messages[1]"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
        ({"messages": [HELLO, {"role": "user", "content": ""}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "mcp", "server_url": "http://10.0.0.1"}]}, "tools[0]"),
    ],
)
def test_a_field_at_fault_is_named(content, param):
    with pytest.raises(InvalidRequest) as error:
        read_openai(body(**content))
    assert error.value.param == param
    assert error.value.status_code == 400


def test_P13_ten_thousand_messages_pass_and_one_more_does_not():
    assert read_openai(body(messages=[HELLO] * MOST_MESSAGES))
    with pytest.raises(MessagesTooLarge):
        read_openai(body(messages=[HELLO] * (MOST_MESSAGES + 1)))


def test_P13_text_beyond_the_limit_is_refused_however_it_is_cut_up():
    part = {"type": "text", "text": "x" * (MOST_TEXT // 2 + 1)}
    with pytest.raises(MessagesTooLarge):
        read_openai(body(messages=[{"role": "user", "content": [part, part]}]))


def test_nesting_beyond_reason_is_a_bad_request():
    raw = b'{"messages":[{"role":"user","content":"x"}],"model":"basic","x":%b%b}' % (
        b"[" * 900,
        b"]" * 900,
    )
    with pytest.raises(BadJson):
        compose(read_openai(raw), FREE, EMPTY)


def test_the_front_end_names_its_model_in_its_own_way_and_streams():
    call = read_front_end(
        json.dumps({"messages": [HELLO], "selectedModelId": "basic", "model": "big"}).encode()
    )
    assert (call.model, call.stream) == ("basic", True)
    assert "selectedModelId" not in json.loads(compose(call, FREE, EMPTY))


def test_openai_clients_stream_only_when_they_ask():
    assert read_openai(body()).stream is False
    assert read_openai(body(stream=True)).stream is True
    assert "stream_options" not in composed(stream_options={"include_usage": True})


@pytest.mark.parametrize("name", sorted(DENIED))
def test_P12_no_caller_speaks_for_the_platform(name):
    assert name not in composed(**{name: "forged"})


@pytest.mark.parametrize(
    "name", ["litellm_params", "litellm_metadata", "aws_secret_access_key", "vertex_project", "_x"]
)
def test_P12_nor_by_a_prefix(name):
    assert name not in composed(**{name: "forged"})


def test_P13_whatever_else_a_model_understands_passes_through():
    extras = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "n": 2,
        "stop": ["x"],
        "reasoning_effort": "low",
        "a_parameter_of_next_year": {"deep": [1, 2.5, None]},
    }
    sent = composed(**extras)
    assert {name: sent[name] for name in extras} == extras


def test_P13_images_pass_through_untouched():
    message = {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ],
    }
    assert composed(messages=[message])["messages"] == [message]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"max_tokens": 4000}),
        ({"max_tokens": 10}, {"max_tokens": 10}),
        ({"max_tokens": 100_000}, {"max_tokens": 8000}),
        ({"max_tokens": None}, {"max_tokens": 4000}),
        ({"max_completion_tokens": 9000}, {"max_completion_tokens": 8000}),
    ],
)
def test_the_answers_length_has_a_default_and_a_ceiling(asked, sent):
    payload = composed(**asked)
    assert {n: payload[n] for n in ("max_tokens", "max_completion_tokens") if n in payload} == sent


def test_temperature_has_a_default_which_zero_is_not():
    assert composed()["temperature"] == 0.7
    assert composed(temperature=0)["temperature"] == 0


def test_temperature_has_a_ceiling():
    assert composed(temperature=1.2)["temperature"] == 1.2
    assert composed(temperature=2)["temperature"] == 1.5


def test_usage_is_always_asked_for_and_other_options_kept():
    sent = composed(stream=True, stream_options={"include_usage": False, "x": 1})
    assert sent["stream_options"] == {"include_usage": True, "x": 1}


# Whose system messages

MINE = {"role": "system", "content": "Pirate."}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy.ALLOW, [{"role": "system", "content": "Be kind."}, MINE, HELLO]),
        (Policy.APPEND, [{"role": "system", "content": "Be kind.\n\nPirate."}, HELLO]),
    ],
)
def test_ours_come_first(policy, expected):
    plan = replace(FREE, client_system_messages=policy)
    assert composed(OURS, plan, messages=[MINE, HELLO])["messages"] == expected


def test_a_plan_may_refuse_system_messages():
    plan = replace(FREE, client_system_messages=Policy.REFUSE)
    catalogue = replace(CATALOGUE, plans={1: plan})
    for role in ("system", "developer"):
        call = read_openai(body(messages=[{"role": role, "content": "Pirate."}, HELLO]))
        with pytest.raises(ApiError) as error:
            admit(call, CALLER, catalogue)
        assert error.value.code == "system_message_not_allowed"


# Models


@pytest.mark.parametrize(
    ("model", "status", "code", "upgrade_to"),
    [
        ("nope", 400, "model_not_found", None),
        ("gone", 403, "model_disabled", None),
        ("big", 403, "model_not_in_plan", "pro"),
    ],
)
def test_each_reason_for_not_having_a_model_is_its_own(model, status, code, upgrade_to):
    error = refuse_model(model, FREE, CATALOGUE, field="selectedModelId")
    assert (error.status_code, error.code) == (status, code)
    assert error.param == "selectedModelId"
    assert error.details.get("upgrade_to") == upgrade_to


def test_a_model_of_no_public_plan_offers_no_upgrade():
    hidden = replace(CATALOGUE, plans={1: FREE, 2: replace(PRO, is_public=False)})
    assert refuse_model("big", FREE, hidden, field="model").details["upgrade_to"] is None


def test_a_name_longer_than_any_model_is_unknown():
    call = read_openai(body(model="x" * 5000))
    with pytest.raises(UnknownModel) as error:
        admit(call, CALLER, CATALOGUE)
    assert error.value.param == "model"
    assert len(call.model) <= 200


def test_long_prompts_are_escaped_once():
    text = 'Say "hi"\n' * 1000
    sent = composed(Rendered(text, (1,), orjson.dumps(text)))
    assert sent["messages"][0]["content"] == text

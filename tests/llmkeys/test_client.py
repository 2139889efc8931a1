"""The gateway's management API as our client reads it."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmkeys.litellm_client import LiteLLMClient
from llmkeys.litellm_errors import (
    LiteLLMRejected,
    LiteLLMUnavailable,
    MasterKeyRefused,
    read_problem,
)
from tests.llmkeys import faults
from tests.llmkeys.faults import answering, on
from tests.llmkeys.standin import MASTER_KEY, Fault, StandIn, client_of

SECRET = "sk-0123456789abcdef0123456789abcdef"


@pytest.fixture
def gateway_standin(tmp_path: Path) -> Iterator[StandIn]:
    standin = StandIn(tmp_path)
    yield standin
    standin.close()


@pytest.fixture
def client(gateway_standin: StandIn) -> LiteLLMClient:
    return client_of(gateway_standin)


@pytest.mark.parametrize(
    ("body", "message", "kind"),
    [
        (
            {"error": {"message": "m", "type": "auth_error", "param": "None", "code": "401"}},
            "m",
            "auth_error",
        ),
        ({"error": {"message": {"error": "m"}}}, "{'error': 'm'}", ""),
        ({"detail": {"error": "m"}}, "m", ""),
        ({"detail": "m"}, "m", ""),
        ({"detail": [{"type": "x", "loc": ["body", "rpm"], "msg": "m"}]}, "m", "validation_error"),
        ("m", "m", ""),
        ({"nothing": "known"}, "fallback", ""),
        (None, "fallback", ""),
    ],
)
def test_all_of_the_gateways_error_envelopes_are_read(body: Any, message: str, kind: str) -> None:
    problem = read_problem(body, "fallback")
    assert (problem.message, problem.type) == (message, kind)


def test_S41_an_error_text_holds_no_key() -> None:
    problem = read_problem({"detail": f"key {SECRET} is bad"}, "")
    assert SECRET not in problem.message


def test_S02_refused_connections_have_had_no_effect(
    client: LiteLLMClient, gateway_standin: StandIn
) -> None:
    gateway_standin.before = faults.refused
    with pytest.raises(LiteLLMUnavailable) as failure:
        client.create_key(SECRET, {})
    assert not failure.value.outcome_unknown


def test_S03_a_read_timeout_leaves_the_outcome_of_a_write_unknown(
    client: LiteLLMClient, gateway_standin: StandIn
) -> None:
    gateway_standin.after = faults.silent
    with pytest.raises(LiteLLMUnavailable) as failure:
        client.create_key(SECRET, {})
    assert failure.value.outcome_unknown


def test_S03_a_read_timeout_of_a_read_is_harmless(
    client: LiteLLMClient, gateway_standin: StandIn
) -> None:
    gateway_standin.after = faults.silent
    with pytest.raises(LiteLLMUnavailable) as failure:
        client.get_key("0" * 64)
    assert not failure.value.outcome_unknown


def test_S06_retry_after_is_told(client: LiteLLMClient, gateway_standin: StandIn) -> None:
    gateway_standin.before = answering(429, **{"retry-after": "7"})
    with pytest.raises(LiteLLMUnavailable) as failure:
        client.update_key("0" * 64, {"blocked": True})
    assert failure.value.retry_after == 7
    assert not failure.value.outcome_unknown


@pytest.mark.parametrize("fault", [faults.torn, answering(200, ["no", "object"])])
def test_nonsense_is_a_failure_whose_outcome_is_unknown(
    client: LiteLLMClient, gateway_standin: StandIn, fault: Fault
) -> None:
    gateway_standin.after = fault
    with pytest.raises(LiteLLMUnavailable) as failure:
        client.create_key(SECRET, {})
    assert failure.value.outcome_unknown


def test_S07_a_wrong_master_key_is_a_failure_of_its_own(gateway_standin: StandIn) -> None:
    client = client_of(gateway_standin, master_keys=["sk-wrong-key-0001", "sk-wrong-key-0002"])
    with pytest.raises(MasterKeyRefused) as failure:
        client.check()
    assert "sk-wrong" not in str(failure.value)


def test_S08_either_of_two_master_keys_will_do(gateway_standin: StandIn) -> None:
    client = client_of(gateway_standin, master_keys=["sk-old-key-000001", MASTER_KEY])
    client.check()
    gateway_standin.calls.clear()
    client.check()
    assert len(gateway_standin.calls) == 1
    assert client.accepts(MASTER_KEY)
    assert not client.accepts("sk-old-key-000001")


@pytest.mark.parametrize("first", [0, 1])
def test_S08_replicas_that_know_one_master_key_each_refuse_no_call(
    gateway_standin: StandIn, first: int
) -> None:
    """Half of the gateway was restarted with the new key; calls go to either half in turn."""
    page = answering(200, {"keys": [], "total_pages": 0, "total_count": 0})
    keys = ["sk-new-key-000001", "sk-old-key-000001"]
    halves = count(first)

    def in_turn(request: httpx.Request) -> httpx.Response | None:
        knows = f"Bearer {keys[next(halves) % 2]}"
        return (page if request.headers["authorization"] == knows else answering(401))(request)

    gateway_standin.before = in_turn
    client = client_of(gateway_standin, master_keys=keys)
    for _ in range(3):
        client.check()


def test_deleting_an_unknown_key_succeeds(client: LiteLLMClient) -> None:
    client.delete_key("0" * 64)


def test_S10_a_deleted_key_counts_as_unknown(client: LiteLLMClient) -> None:
    made = client.create_key(SECRET, {"max_budget": 1})
    client.delete_key(made["token"])
    assert client.get_key(made["token"]) is None


def test_updating_an_unknown_budget_row_says_so(client: LiteLLMClient) -> None:
    assert client.update_budget("nowhere", {"rpm_limit": 1}) is None
    assert client.get_budget("nowhere") is None


def test_updating_an_unknown_team_says_so(client: LiteLLMClient) -> None:
    assert client.update_team("nowhere", {}) is None


def test_S33_an_enterprise_field_is_refused_with_the_gateways_reason(
    client: LiteLLMClient, gateway_standin: StandIn
) -> None:
    with pytest.raises(LiteLLMRejected, match=r"(?i)premium|enterprise"):
        client.create_key(SECRET, {"tags": ["x"]})


def test_S33_unknown_fields_in_answers_are_no_trouble(
    client: LiteLLMClient, gateway_standin: StandIn
) -> None:
    row = {"info": {"key_alias": "a", "brand_new": {"x": 1}}}
    gateway_standin.before = on("/key/info", answering(200, row))
    assert client.get_key("0" * 64) is not None


def test_keys_are_named_by_hash_in_every_call_but_their_creation(
    client: LiteLLMClient, gateway_standin: StandIn
) -> None:
    token = client.create_key(SECRET, {})["token"]
    seen: list[str] = []

    def note(request: httpx.Request) -> httpx.Response | None:
        seen.append(f"{request.url} {request.content.decode()}")
        return None

    gateway_standin.before = note
    client.get_key(token)
    client.update_key(token, {"blocked": True})
    client.delete_key(token)
    assert all(SECRET not in line and token in line for line in seen)

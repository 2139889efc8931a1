"""What the gateway lets a key do, and in which words it refuses."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.contract.gateway.conftest import (
    AT_ONCE,
    BACKUP,
    ON_FREE,
    ON_PLUS,
    ON_PRO,
    QUESTION,
    Gateway,
    new_value,
    until,
)

pytestmark = pytest.mark.contract


def refused(answer: httpx.Response, status: int, kind: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["type"] == kind
    assert error["code"] == str(status)


def limited(answer: httpx.Response, rate_limit_type: str) -> None:
    refused(answer, 429, "throttling_error")
    assert answer.headers["rate_limit_type"] == rate_limit_type
    assert int(answer.headers["retry-after"]) > 0
    assert "reset_at" in answer.headers


# Who


def test_no_key_and_unknown_key_are_401(gateway: Gateway) -> None:
    for path in ("/v1/models", "/key/info"):
        refused(gateway.http.get(path), 401, "auth_error")
    refused(gateway.chat(new_value()), 401, "token_not_found_in_db")
    refused(gateway.ask("GET", "/v1/models", key=new_value()), 401, "token_not_found_in_db")


def test_a_hash_is_no_key(gateway: Gateway) -> None:
    key = gateway.key()
    headers = {"Authorization": f"Bearer {key.hash}"}
    refused(gateway.http.get("/v1/models", headers=headers), 401, "auth_error")


def test_deleted_key_is_refused_like_an_unknown_one(gateway: Gateway) -> None:
    key = gateway.key()
    assert gateway.chat(key).status_code == 200
    gateway.post("/key/delete", keys=[key.hash])
    refused(gateway.chat(key), 401, "token_not_found_in_db")


def test_S30_blocked_key_is_refused_at_once_and_works_again_unblocked(gateway: Gateway) -> None:
    key = gateway.key()
    assert gateway.chat(key).status_code == 200
    gateway.post("/key/block", key=key.hash)
    until(lambda: gateway.chat(key).status_code == 401, within=AT_ONCE)
    refused(gateway.chat(key), 401, "auth_error")
    refused(gateway.ask("GET", "/v1/models", key=key), 401, "auth_error")
    gateway.post("/key/unblock", key=key.hash)
    until(lambda: gateway.chat(key).status_code == 200, within=AT_ONCE)


def test_expired_key_is_refused_as_expired(gateway: Gateway) -> None:
    key = gateway.key(duration="1s")
    time.sleep(1.1)
    refused(gateway.chat(key), 401, "expired_key")


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-litellm-api-key"])
def test_other_headers_are_taken_as_credentials_too(gateway: Gateway, header: str) -> None:
    key = gateway.key()
    value = f"Bearer {key.value}" if header == "x-litellm-api-key" else key.value
    assert gateway.http.get("/v1/models", headers={header: value}).status_code == 200


# Models


def test_access_group_opens_its_models_and_no_others(gateway: Gateway) -> None:
    key = gateway.key(models=["plan-plus"])
    assert gateway.chat(key, ON_FREE).status_code == 200
    assert gateway.chat(key, ON_PLUS).status_code == 200
    for model in (ON_PRO, BACKUP, "no-such-model"):
        refused(gateway.chat(key, model), 403, "key_model_access_denied")


def test_S15_empty_list_of_models_means_all(gateway: Gateway) -> None:
    key = gateway.key(models=[])
    assert gateway.chat(key, ON_PRO).status_code == 200
    refused(gateway.chat(key, "no-such-model"), 400, "invalid_request_error")


def test_new_models_are_in_force_at_once(gateway: Gateway) -> None:
    key = gateway.key(models=["plan-free"])
    refused(gateway.chat(key, ON_PRO), 403, "key_model_access_denied")
    gateway.post("/key/update", key=key.hash, models=["plan-pro"])
    until(lambda: gateway.chat(key, ON_PRO).status_code == 200, within=AT_ONCE)
    gateway.post("/key/update", key=key.hash, models=[ON_PLUS])
    until(lambda: gateway.chat(key, ON_PRO).status_code == 403, within=AT_ONCE)


def test_models_lists_what_the_key_may_call(gateway: Gateway) -> None:
    def ids(answer: httpx.Response) -> set[str]:
        assert answer.json()["object"] == "list"
        return {row["id"] for row in answer.json()["data"]}

    free, plus = gateway.key(models=["plan-free"]), gateway.key(models=["plan-plus"])
    assert ids(gateway.ask("GET", "/v1/models", key=free)) == {ON_FREE, "basic-chat"}
    assert ids(gateway.ask("GET", "/models", key=plus)) > {ON_FREE, ON_PLUS}
    everything = ids(gateway.get("/v1/models"))
    assert everything >= {ON_FREE, ON_PLUS, ON_PRO, BACKUP}
    assert ids(gateway.ask("GET", "/v1/models", key=gateway.key())) == everything


def test_model_info_tells_groups_and_prices_and_no_key(gateway: Gateway) -> None:
    rows = gateway.get("/v1/model/info").json()["data"]
    model = next(row for row in rows if row["model_name"] == ON_PLUS)
    assert set(model["model_info"]["access_groups"]) == {"plan-plus", "plan-pro"}
    assert model["model_info"]["input_cost_per_token"] > 0
    assert model["model_info"]["output_cost_per_token"] > 0
    assert "api_key" not in model["litellm_params"]


# Rates


def test_requests_per_minute(gateway: Gateway) -> None:
    key = gateway.key(rpm_limit=2)
    first, second = gateway.chat(key), gateway.chat(key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["x-ratelimit-api_key-limit-requests"] == "2"
    assert first.headers["x-ratelimit-api_key-remaining-requests"] == "1"
    assert second.headers["x-ratelimit-api_key-remaining-requests"] == "0"
    assert second.headers["x-litellm-key-rpm-limit"] == "2"
    limited(gateway.chat(key), "requests")
    limited(gateway.chat(key, stream=True), "requests")


def test_window_opens_with_the_first_request_and_then_starts_anew(gateway: Gateway) -> None:
    if gateway.window > 20:
        pytest.skip("its windows are too long to wait for")
    key = gateway.key(rpm_limit=1)
    begun = time.monotonic()
    assert gateway.chat(key).status_code == 200
    limited(gateway.chat(key), "requests")
    until(lambda: gateway.chat(key).status_code == 200, within=gateway.window + 3)
    assert time.monotonic() - begun > gateway.window - 2


def test_raised_limit_counts_what_was_asked_refusals_included(gateway: Gateway) -> None:
    key = gateway.key(rpm_limit=1)
    assert gateway.chat(key).status_code == 200
    limited(gateway.chat(key), "requests")
    gateway.post("/key/update", key=key.hash, rpm_limit=3)
    assert [gateway.chat(key).status_code for _ in range(2)] == [200, 429]


def test_tokens_are_reserved_before_the_call_and_corrected_after(gateway: Gateway) -> None:
    key = gateway.key(tpm_limit=1000)
    prompt = len(QUESTION) // 4
    first = gateway.chat(key, max_tokens=100)
    left = int(first.headers["x-ratelimit-api_key-remaining-tokens"])
    assert left == 1000 - prompt - 100
    used = first.json()["usage"]["total_tokens"]
    time.sleep(1)  # LiteLLM corrects after it has answered
    second = gateway.chat(key, max_tokens=1)
    left = int(second.headers["x-ratelimit-api_key-remaining-tokens"])
    assert left == 1000 - used - prompt - 1
    limited(gateway.chat(key, max_tokens=5000), "tokens")


def test_without_max_tokens_a_quarter_of_a_small_limit_is_reserved(gateway: Gateway) -> None:
    key = gateway.key(tpm_limit=400)
    answer = gateway.chat(key)
    left = int(answer.headers["x-ratelimit-api_key-remaining-tokens"])
    assert left == 400 - len(QUESTION) // 4 - 100
    assert answer.json()["usage"]["completion_tokens"] <= 100


def test_requests_in_flight(provider: Gateway) -> None:
    key = provider.key(max_parallel_requests=1)
    provider.provider_does_wrong(kind="slow", delay=1, after_effect=True)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(provider.chat, key)
        time.sleep(0.5)
        limited(provider.chat(key), "max_parallel_requests")
        assert slow.result().status_code == 200
    assert provider.chat(key).status_code == 200


@pytest.mark.parametrize("limit", ["rpm_limit", "tpm_limit", "max_parallel_requests"])
def test_a_limit_of_zero_refuses_everything(gateway: Gateway, limit: str) -> None:
    refused(gateway.chat(gateway.key(**{limit: 0})), 429, "throttling_error")


# Money


def test_S16_no_budget_is_unlimited_and_zero_blocks(gateway: Gateway) -> None:
    assert gateway.chat(gateway.key(max_budget=None)).status_code == 200
    blocked = gateway.key(max_budget=0)
    refused(gateway.chat(blocked), 422, "budget_exceeded")
    refused(gateway.ask("GET", "/v1/models", key=blocked), 422, "budget_exceeded")


def test_budget_is_enforced_a_request_or_two_late(gateway: Gateway) -> None:
    key = gateway.key(max_budget=0.000001)
    statuses = []
    for _ in range(12):
        answer = gateway.chat(key)
        statuses.append(answer.status_code)
        if answer.status_code != 200:
            refused(answer, 422, "budget_exceeded")
            break
        time.sleep(0.1)
    assert statuses[0] == 200
    assert statuses[-1] == 422
    assert len(statuses) <= 5


def test_raising_the_budget_is_in_force_at_once(gateway: Gateway) -> None:
    key = gateway.key(max_budget=0)
    refused(gateway.chat(key), 422, "budget_exceeded")
    gateway.post("/key/update", key=key.hash, max_budget=1)
    until(lambda: gateway.chat(key).status_code == 200, within=AT_ONCE)


def test_U05_reset_spend_opens_the_budget_again(gateway: Gateway) -> None:
    key = gateway.key(max_budget=0.000001)
    until(lambda: gateway.chat(key).status_code == 422, within=10)
    until(lambda: gateway.row(key)["spend"] > 0, within=10)
    spent = gateway.row(key)["spend"]
    assert gateway.post(f"/key/{key.hash}/reset_spend", reset_to=spent + 1).status_code == 400
    answer = gateway.post(f"/key/{key.hash}/reset_spend", reset_to=0)
    assert answer.status_code == 200
    assert answer.json()["spend"] == 0
    assert answer.json()["key_hash"] == key.hash
    until(lambda: gateway.chat(key).status_code == 200, within=AT_ONCE)


def test_refusals_come_in_this_order(gateway: Gateway) -> None:
    wrong = {"models": ["plan-free"], "max_budget": 0, "rpm_limit": 0}
    key = gateway.key(**wrong, blocked=True)
    refused(gateway.chat(key, ON_PRO), 401, "auth_error")
    gateway.post("/key/unblock", key=key.hash)
    refused(gateway.chat(key, ON_PRO), 403, "key_model_access_denied")
    refused(gateway.chat(key), 422, "budget_exceeded")
    gateway.post("/key/update", key=key.hash, max_budget=None)
    refused(gateway.chat(key), 429, "throttling_error")

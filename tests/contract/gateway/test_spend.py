"""What the gateway writes down of each call, and when it can be read."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.gateway.conftest import (
    ON_FREE,
    ON_PRO,
    Gateway,
    Json,
    VirtualKey,
    unique,
    until,
)

pytestmark = pytest.mark.contract

# LiteLLM writes in batches.
SOON = 12


def around_now() -> dict[str, str]:
    now = datetime.now(UTC)
    shape = "%Y-%m-%d %H:%M:%S"
    hour = timedelta(hours=1)
    return {
        "start_date": (now - hour).strftime(shape),
        "end_date": (now + hour).strftime(shape),
    }


def logged(gateway: Gateway, key: VirtualKey, count: int) -> list[Json]:
    """The key's rows, newest first, once there are so many."""

    def rows() -> list[Json]:
        answer = gateway.get("/spend/logs/v2", api_key=key.hash, **around_now(), page_size=100)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    until(lambda: len(rows()) >= count, within=SOON)
    return rows()


def test_every_call_is_logged_with_its_tokens_cost_and_names(gateway: Gateway) -> None:
    alias, call = unique("alias"), unique("call")
    key = gateway.key(models=["plan-free"], key_alias=alias)
    answer = gateway.chat(key, headers={"x-litellm-call-id": call})
    row = logged(gateway, key, 1)[0]
    usage = answer.json()["usage"]
    expected = {
        "request_id": answer.json()["id"],
        "api_key": key.hash,
        "model_group": ON_FREE,
        "status": "success",
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    assert {name: row[name] for name in expected} == expected
    assert row["spend"] == pytest.approx(float(answer.headers["x-litellm-response-cost"]))
    assert row["metadata"]["litellm_call_id"] == call
    assert row["metadata"]["user_api_key_alias"] == alias
    started = datetime.fromisoformat(row["startTime"])
    assert abs((datetime.now(UTC) - started).total_seconds()) < 60


def test_streams_are_logged_like_whole_answers(gateway: Gateway) -> None:
    key = gateway.key()
    streamed = gateway.stream(key, stream_options={"include_usage": True})
    row = logged(gateway, key, 1)[0]
    usage = streamed.frames[-1]["usage"]
    assert row["request_id"] == streamed.frames[0]["id"]
    assert row["completion_tokens"] == usage["completion_tokens"]
    assert row["spend"] == pytest.approx(usage["cost"])


def test_refused_calls_are_logged_with_zero_spend(gateway: Gateway) -> None:
    key = gateway.key(models=["plan-free"], rpm_limit=1)
    gateway.chat(key)
    gateway.chat(key, ON_PRO)
    gateway.chat(key)
    rows = logged(gateway, key, 3)
    failed = [row for row in rows if row["status"] == "failure"]
    assert len(failed) == 2
    assert {(row["spend"], row["total_tokens"]) for row in failed} == {(0, 0)}
    codes = {row["metadata"]["error_information"]["error_code"] for row in failed}
    assert codes == {"403", "429"}
    # The id of a refused call is its call id: nothing else tells it.
    assert all(row["request_id"] == row["metadata"]["litellm_call_id"] for row in failed)


def test_spend_of_the_key_is_the_sum_of_its_log(gateway: Gateway) -> None:
    key = gateway.key()
    for _ in range(3):
        gateway.chat(key)
    rows = logged(gateway, key, 3)
    total = sum(row["spend"] for row in rows)
    until(lambda: gateway.row(key)["spend"] == pytest.approx(total), within=SOON)


def test_log_is_read_by_pages(gateway: Gateway) -> None:
    key = gateway.key()
    for _ in range(5):
        gateway.chat(key)
    rows = logged(gateway, key, 5)
    seen = []
    for page in (1, 2, 3):
        answer = gateway.get(
            "/spend/logs/v2", api_key=key.hash, **around_now(), page=page, page_size=2
        ).json()
        assert (answer["total"], answer["total_pages"], answer["page"]) == (5, 3, page)
        seen += [row["request_id"] for row in answer["data"]]
    assert sorted(seen) == sorted(row["request_id"] for row in rows)
    beyond = gateway.get("/spend/logs/v2", api_key=key.hash, **around_now(), page=9)
    assert beyond.json()["data"] == []


def test_log_needs_dates_and_sane_pages(gateway: Gateway) -> None:
    assert gateway.get("/spend/logs/v2").status_code == 400
    assert gateway.get("/spend/logs/v2", **around_now(), page=0).status_code == 422
    assert gateway.get("/spend/logs/v2", start_date="x", end_date="y").status_code == 400


def test_unpaged_log_finds_a_key_and_a_request(gateway: Gateway) -> None:
    key = gateway.key()
    request_id = gateway.chat(key).json()["id"]
    logged(gateway, key, 1)
    for query in ({"api_key": key.hash}, {"request_id": request_id}):
        rows = gateway.get("/spend/logs", **query).json()
        assert [row["request_id"] for row in rows] == [request_id]
    assert gateway.get("/spend/logs", request_id=unique("none")).json() == []


def test_daily_activity_sums_by_key_and_model_page_by_page(gateway: Gateway) -> None:
    key = gateway.key()
    for model in (ON_FREE, ON_PRO):
        gateway.chat(key, model)
    rows = logged(gateway, key, 2)
    today = datetime.now(UTC).date()
    days = {
        "start_date": str(today - timedelta(days=1)),
        "end_date": str(today + timedelta(days=1)),
        "api_key": key.hash,
    }

    def metadata(page: int) -> Json:
        answer = gateway.get("/user/daily/activity", **days, page=page, page_size=1)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["metadata"])

    until(lambda: metadata(1)["total_pages"] == 2, within=SOON)
    pages = [metadata(1), metadata(2)]
    assert [page["has_more"] for page in pages] == [True, False]
    # A page's totals are of that page alone.
    total = sum(page["total_spend"] for page in pages)
    assert total == pytest.approx(sum(row["spend"] for row in rows))
    assert sum(page["total_successful_requests"] for page in pages) == 2
    day = gateway.get("/user/daily/activity", **days).json()["results"][0]
    assert set(day["breakdown"]["model_groups"]) == {ON_FREE, ON_PRO}
    assert day["breakdown"]["api_keys"][key.hash]["metrics"]["api_requests"] == 2


def test_daily_activity_needs_dates(gateway: Gateway) -> None:
    assert gateway.get("/user/daily/activity").status_code == 400
    query = {"start_date": "2026-01-01", "end_date": "2026-01-02", "page_size": 1001}
    assert gateway.get("/user/daily/activity", **query).status_code == 422


def test_provider_that_fails_at_once_costs_nothing(provider: Gateway) -> None:
    key = provider.key()
    provider.provider_does_wrong(kind="status", status=500)
    provider.chat(key)
    row = logged(provider, key, 1)[0]
    assert (row["status"], row["spend"]) == ("failure", 0)
    assert row["metadata"]["error_information"]["error_code"] == "500"
    time.sleep(0.2)
    assert provider.row(key)["spend"] == 0


def test_stream_that_breaks_is_a_failure_that_may_cost_what_was_sent(provider: Gateway) -> None:
    key = provider.key()
    provider.provider_does_wrong(kind="stream_break", after_chunks=4)
    provider.stream(key)
    row = logged(provider, key, 1)[0]
    assert row["status"] == "failure"
    # Two of LiteLLM's writers race for this row: the one that counted, the one that did not.
    assert row["completion_tokens"] in (0, 4)
    assert (row["spend"] > 0) is (row["completion_tokens"] > 0)
    assert row["request_id"] == row["metadata"]["litellm_call_id"]


def test_stream_that_the_client_leaves_is_a_success_that_costs_what_was_sent(
    provider: Gateway,
) -> None:
    key = provider.key()
    provider.pace(20)
    body = {
        "model": ON_FREE,
        "stream": True,
        "messages": [{"role": "user", "content": "Tell me about tuples"}],
    }
    headers = {"Authorization": f"Bearer {key.value}"}
    with provider.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            next(lines)
    row = logged(provider, key, 1)[0]
    assert row["status"] == "success"
    assert 2 <= row["completion_tokens"] <= 20
    assert row["spend"] > 0
    information = row["metadata"]["error_information"]
    assert (information["error_code"], information["error_class"]) == ("499", "ClientDisconnected")

"""What the stand-in can do beside LiteLLM's contract: pace, faults, what tests may look at."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest

from sandbox.litellm import Settings, build_app
from sandbox.litellm.records import Key, hash_of
from sandbox.litellm.views import start_new_budget_window
from sandbox.serving import served
from sandbox.state import Journal
from tests.sandbox.litellm.conftest import FREE, MASTER_KEY, PRO, VALUE, Client


def generate(http: Client, **fields: object) -> None:
    answer = http.post("/key/generate", json={"key": VALUE, **fields})
    assert answer.status_code == 200, answer.text


def switch_on(http: Client, **fault: object) -> None:
    assert http.post("/sandbox/faults", json=fault).status_code == 201


def stream(http: Client, **more: object) -> list[str]:
    body = {"model": FREE, "messages": [{"role": "user", "content": "Hi"}], "stream": True, **more}
    headers = {"authorization": f"Bearer {VALUE}"}
    with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        return [line for line in answer.iter_lines() if line]


# Pace, and clients that leave


def test_stream_comes_at_the_pace_that_is_set(http: Client) -> None:
    generate(http)
    http.post("/sandbox/pace", json={"tokens_per_second": 50})
    begun = time.monotonic()
    assert len(stream(http, max_tokens=20)) == 20 + 2
    assert 0.35 < time.monotonic() - begun < 1.5
    http.post("/sandbox/pace", json={"tokens_per_second": 0})
    begun = time.monotonic()
    stream(http, max_tokens=20)
    assert time.monotonic() - begun < 0.3


def test_whole_answer_takes_as_long_as_its_stream_would(http: Client) -> None:
    generate(http)
    http.post("/sandbox/pace", json={"tokens_per_second": 50})
    begun = time.monotonic()
    http.chat(max_tokens=20)
    assert time.monotonic() - begun > 0.35


def test_client_that_leaves_is_noticed_and_pays_for_what_was_sent(http: Client) -> None:
    generate(http, max_parallel_requests=1)
    http.post("/sandbox/pace", json={"tokens_per_second": 40})
    body = {"model": FREE, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    headers = {"authorization": f"Bearer {VALUE}"}
    with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            next(lines)
    left = time.time()
    time.sleep(0.3)
    notes = http.last_chat()["notes"]
    assert left - 0.1 < notes["cancelled_at"] < left + 0.2
    assert 4 <= notes["completion_tokens"] <= 12
    row = http.get("/spend/logs", params={"api_key": hash_of(VALUE)}).json()[0]
    assert row["completion_tokens"] == notes["completion_tokens"]
    http.post("/sandbox/pace", json={"tokens_per_second": 0})
    assert http.chat().status_code == 200


def test_streamed_pieces_are_the_tokens_that_are_counted(http: Client) -> None:
    generate(http)
    lines = stream(http, stream_options={"include_usage": True})
    frames = [orjson.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    pieces = [f for f in frames if f["choices"] and f["choices"][0]["delta"].get("content")]
    assert frames[-1]["usage"]["completion_tokens"] == len(pieces)


# Faults


def test_gateway_fault_strikes_before_anything_is_counted(http: Client) -> None:
    generate(http, rpm_limit=1)
    switch_on(http, route="POST /v1/chat/completions", kind="status", status=503, times=1)
    assert http.chat().status_code == 503
    assert http.chat().status_code == 200


def test_provider_fault_strikes_one_model_after_it_was_counted(http: Client) -> None:
    generate(http, rpm_limit=2)
    switch_on(http, route=f"provider/{PRO}", kind="status", status=500)
    failed = http.chat(model=PRO)
    assert failed.status_code == 500
    assert failed.json()["error"]["type"] == "internal_server_error"
    assert failed.headers["x-litellm-call-id"]
    assert http.chat(model=FREE).status_code == 200
    assert http.chat(model=FREE).status_code == 429


def test_lost_answer_of_generate_left_a_key_behind(http: Client) -> None:
    switch_on(http, route="POST /key/generate", kind="reset", after_effect=True, times=1)
    with pytest.raises(httpx.TransportError):
        http.post("/key/generate", json={"key": VALUE})
    assert http.get("/key/info", params={"key": hash_of(VALUE)}).status_code == 200


def test_second_process_goes_on_serving_a_blocked_and_a_deleted_key(http: Client) -> None:
    http.post("/sandbox/cache", json={"seconds": 0.6})
    generate(http)
    assert {http.chat().status_code for _ in range(4)} == {200}
    http.post("/key/block", json={"key": VALUE})
    assert {http.chat().status_code for _ in range(4)} == {200, 401}
    time.sleep(0.7)
    assert {http.chat().status_code for _ in range(4)} == {401}


# What tests may look at


def test_chats_are_kept_as_they_came_without_credentials(http: Client) -> None:
    generate(http)
    http.post(
        "/v1/chat/completions",
        json={"model": FREE, "messages": [{"role": "user", "content": "Hi"}], "user": "u-7"},
        headers={"authorization": f"Bearer {VALUE}", "x-tesslate": "yes"},
    )
    kept = http.get("/sandbox/chats")
    assert VALUE not in kept.text
    chat = kept.json()["chats"][-1]
    assert chat["body"]["user"] == "u-7"
    assert chat["caller"] == hash_of(VALUE)
    assert chat["headers"]["x-tesslate"] == "yes"


def test_request_log_names_callers_by_hash(http: Client) -> None:
    generate(http)
    http.chat()
    assert http.last_chat()["caller"] == hash_of(VALUE)
    requests = http.get("/sandbox/requests")
    assert VALUE not in requests.text
    assert MASTER_KEY not in requests.text
    assert requests.json()["counts"]["POST /key/generate"] == 1


def test_controls_are_for_the_master_key(http: Client) -> None:
    generate(http)
    as_key = {"authorization": f"Bearer {VALUE}"}
    for method, path in (("GET", "chats"), ("POST", "pace"), ("POST", "cache"), ("POST", "reset")):
        answer = http.request(method, f"/sandbox/{path}", json={}, headers=as_key)
        assert answer.status_code == 401


def test_reset_forgets_keys_spend_and_limits(http: Client) -> None:
    generate(http, rpm_limit=1)
    http.chat()
    http.post("/budget/new", json={"budget_id": "b"})
    assert http.post("/sandbox/reset").status_code == 200
    assert http.get("/key/list").json()["total_count"] == 0
    assert http.get("/budget/list").json() == []
    assert http.get("/spend/logs").json() == []
    generate(http, rpm_limit=1)
    assert http.chat().status_code == 200


def test_metrics_count_requests_tokens_and_spend(http: Client) -> None:
    generate(http)
    http.chat(max_tokens=5)
    text = http.get("/metrics/").text
    assert f'litellm_output_tokens_metric_total{{requested_model="{FREE}"}} 5' in text


def test_metrics_need_the_master_key_unless_configured(
    tmp_path: Path, socket_enabled: None
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model_list: []")
    with (
        served(build_app(Settings(master_key=MASTER_KEY, config=config))) as url,
        Client(url) as http,
    ):
        refusal = httpx.get(f"{url}/metrics/")
        assert refusal.status_code == 401
        assert isinstance(refusal.json(), str)
        assert http.get("/metrics/").status_code == 200


# Many


@pytest.fixture
def full(settings: Settings, tmp_path: Path, socket_enabled: None) -> Iterator[Client]:
    """A stand-in with twenty thousand keys."""
    journal = Journal(tmp_path / "litellm.sqlite")
    for n in range(20_000):
        key = Key(token=hash_of(str(n)), key_name="n", key_alias=f"a{n}", created_at=float(n))
        journal.put("key", key.token, lambda key=key: key)  # type: ignore[misc]
    journal.close()
    with served(build_app(replace(settings, data=tmp_path))) as url, Client(url) as client:
        yield client


def test_many_keys_are_listed_by_page_in_no_time(full: Client) -> None:
    def aliases(page: int) -> list[str]:
        query: dict[str, str | int] = {
            "page": page,
            "size": 100,
            "return_full_object": "true",
            "sort_by": "created_at",
            "sort_order": "asc",
        }
        return [row["key_alias"] for row in full.get("/key/list", params=query).json()["keys"]]

    assert len(aliases(1)) == 100
    begun = time.monotonic()
    for page in (1, 100, 200):
        assert aliases(page)[:2] == [f"a{(page - 1) * 100}", f"a{(page - 1) * 100 + 1}"]
    assert time.monotonic() - begun < 1.5


def test_streams_at_once_do_not_wait_for_each_other(http: Client) -> None:
    generate(http)
    http.post("/sandbox/pace", json={"tokens_per_second": 40})
    begun = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        lengths = list(pool.map(lambda _: len(stream(http, max_tokens=20)), range(20)))
    assert lengths == [22] * 20
    assert time.monotonic() - begun < 2.5


# Time


def test_budget_window_that_is_over_starts_with_no_spend() -> None:
    key = Key(token="t", key_name="n", spend=5.0, budget_duration="1d", budget_reset_at=86400.0 * 3)
    assert not start_new_budget_window(replace(key), 86400.0 * 3 - 1)
    assert start_new_budget_window(key, 86400.0 * 3 + 10)
    assert (key.spend, key.budget_reset_at) == (0.0, 86400.0 * 4)


async def test_app_answers_without_a_server_too(settings: Settings) -> None:
    """Anything that speaks ASGI can hold it: here httpx's own transport."""
    transport = httpx.ASGITransport(build_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        answer = await http.get("/health/readiness")
    assert answer.json() == {"status": "healthy", "db": "connected"}
    await asyncio.sleep(0)

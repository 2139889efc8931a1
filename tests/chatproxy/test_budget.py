"""The end of a budget: how far past it a plan can be driven, and what then."""

import asyncio
from decimal import Decimal

import httpx
import pytest
import yaml
from django.db.models import Sum

from plans.models import Plan
from sandbox.litellm import Settings
from tests.chatproxy.conftest import MASTER_KEY, StandIn

DOLLARS_PER_TOKEN = Decimal("0.0001")
MAX_TOKENS = 20
LEFT = Decimal("0.01")
BODY = {
    "messages": [{"role": "user", "content": "Tell me more"}],
    "selectedModelId": "basic-chat",
    "max_tokens": MAX_TOKENS,
}
# What one request may cost at most: its prompt (the few tokens above) and the longest answer.
RESERVATION = (20 + MAX_TOKENS) * DOLLARS_PER_TOKEN


@pytest.fixture
def stand_in_settings(tmp_path):
    """A dear model that takes its time, so that requests overlap."""
    price = float(DOLLARS_PER_TOKEN)
    prices = {"input_cost_per_token": price, "output_cost_per_token": price}
    model = {"model": "groq/openai/gpt-oss-20b", "api_key": "x", **prices}
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"model_list": [{"model_name": "basic-chat", "litellm_params": model}]})
    )
    return Settings(master_key=MASTER_KEY, config=config, tokens_per_second=100)


def ask_at_once(stand_in: StandIn, count: int) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        url, headers = stand_in.server.url, stand_in.server.headers()
        async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits) as client:
            asked = (client.post("/api/proxy/chat", json=BODY, timeout=60) for _ in range(count))
            return await asyncio.gather(*asked)

    return asyncio.run(main())


def leave_a_cent(stand_in: StandIn) -> None:
    update = {"key": stand_in.key_hash, "max_budget": float(LEFT)}
    assert stand_in.master.post("/key/update", json=update).status_code == 200


def assert_refused_and_booked(stand_in: StandIn) -> None:
    """The next request is 402 and costs nothing; what was spent is in the ledger."""
    spent = stand_in.spend()
    refused = stand_in.server.chat(BODY)
    assert refused.status_code == 402
    error = refused.json()["error"]
    assert (error["code"], error["rule"]) == ("budget_exceeded", "budget_dollars")
    assert error["limit"] == pytest.approx(float(LEFT))
    assert error["used"] == pytest.approx(float(spent))
    assert stand_in.spend() == spent
    booked = stand_in.server.rows().aggregate(sum=Sum("cost"))["sum"]
    assert float(booked) == pytest.approx(float(spent), abs=1e-9)


def test_U07_one_request_at_a_time_overshoots_by_one_at_most(stand_in):
    leave_a_cent(stand_in)
    for _ in range(100):
        if stand_in.server.chat(BODY).status_code != 200:
            break
    assert LEFT <= stand_in.spend() <= LEFT + RESERVATION
    assert_refused_and_booked(stand_in)


@pytest.mark.parametrize("parallel", [100, 5])
def test_U08_a_hundred_at_once_overshoot_by_as_many_as_the_plan_lets_run_together(
    plans, stand_in, parallel
):
    Plan.objects.update(max_parallel_requests=parallel)
    leave_a_cent(stand_in)
    statuses = set()
    while 402 not in statuses:
        answers = ask_at_once(stand_in, 100)
        statuses |= {answer.status_code for answer in answers}
        assert statuses <= {200, 402, 429}
        assert sum(answer.status_code == 200 for answer in answers) <= parallel
        # Worst of all, every one of them was let in while a cent was left.
        assert stand_in.spend() <= LEFT + parallel * RESERVATION
    assert stand_in.spend() > LEFT
    assert_refused_and_booked(stand_in)

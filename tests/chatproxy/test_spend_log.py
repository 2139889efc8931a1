"""Our ledger and the gateway's own spend log say the same, request by request."""

import time
from decimal import Decimal
from typing import Any

import pytest

from chatproxy.models import ChatRequest
from tests.chatproxy.conftest import StandIn


def test_the_ledger_equals_the_gateways_spend_log(stand_in):
    server = stand_in.server
    texts = ["hi", "Tell me more, please.", "And now for something completely different"]
    for text in texts:
        messages = [{"role": "user", "content": text}]
        body = {"messages": messages, "selectedModelId": "basic-chat"}
        assert server.chat(body).status_code == 200
        whole = server.completions({"model": "basic-chat", "messages": messages, "max_tokens": 20})
        assert whole.status_code == 200, whole.text
        streamed = server.completions({"model": "basic-chat", "messages": messages, "stream": True})
        assert "[DONE]" in streamed.text
    rows = {row.gateway_response_id: row for row in server.rows()}
    assert len(rows) == 9
    logged = spend_log(stand_in, 9)
    assert {entry["request_id"] for entry in logged} == set(rows)
    for entry in logged:
        row = rows[entry["request_id"]]
        told = (entry["prompt_tokens"], entry["completion_tokens"])
        assert (row.prompt_tokens, row.completion_tokens) == told
        assert row.cost is not None
        assert float(row.cost) == pytest.approx(entry["spend"], abs=1e-9)
    ours = sum(row.cost or Decimal(0) for row in rows.values())
    assert float(ours) == pytest.approx(sum(entry["spend"] for entry in logged), abs=1e-8)
    assert not ChatRequest.objects.filter(is_estimated=True).exists()


def spend_log(stand_in: StandIn, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 15
    while True:
        entries: list[dict[str, Any]] = stand_in.master.get(
            "/spend/logs", params={"api_key": stand_in.key_hash}
        ).json()
        done = [entry for entry in entries if entry.get("status", "success") == "success"]
        if len(done) >= count or time.monotonic() > deadline:
            return done
        time.sleep(0.2)

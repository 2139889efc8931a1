"""Our ledger and the gateway's own spend log say the same, request by request."""

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatproxy.models import ChatRequest
from llmkeys.models import VirtualKey
from plans.models import GatewayModel
from sandbox.litellm import Settings, build_app
from sandbox.serving import served
from tesslate.lib.crypto import decrypt

CONFIG = Path(__file__).resolve().parents[2] / "litellm.config.yaml"
MODEL = "groq-llama-3.1-8b"
MASTER_KEY = "sk-master-key-of-the-stand-in"


@pytest.fixture
def stand_in(alice, start_server, settings):
    """LiteLLM's stand-in, which holds Alice's key; the product asks it."""
    app = build_app(Settings(master_key=MASTER_KEY, config=CONFIG))
    key = VirtualKey.objects.get(user=alice)
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    with served(app) as url, httpx.Client(base_url=url, headers=headers) as client:
        made = {"key": decrypt(key.secret), "models": [MODEL], "key_type": "llm_api"}
        assert client.post("/key/generate", json=made).status_code == 200
        GatewayModel.objects.filter(name="basic-chat").update(name=MODEL)
        settings.LITELLM_URL = url
        settings.LITELLM_MASTER_KEYS = [MASTER_KEY]
        yield start_server(), client, key.key_hash


def test_the_ledger_equals_the_gateways_spend_log(stand_in):
    server, gateway, key_hash = stand_in
    texts = ["hi", "Tell me more, please.", "And now for something completely different"]
    for text in texts:
        messages = [{"role": "user", "content": text}]
        body = {"messages": messages, "selectedModelId": MODEL}
        assert server.chat(body).status_code == 200
        whole = server.completions({"model": MODEL, "messages": messages, "max_tokens": 20})
        assert whole.status_code == 200, whole.text
        streamed = server.completions({"model": MODEL, "messages": messages, "stream": True})
        assert "[DONE]" in streamed.text
    rows = {row.gateway_response_id: row for row in server.rows()}
    assert len(rows) == 9
    logged = spend_log(gateway, key_hash, 9)
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


def spend_log(gateway: httpx.Client, key_hash: str, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 15
    while True:
        entries: list[dict[str, Any]] = gateway.get(
            "/spend/logs", params={"api_key": key_hash}
        ).json()
        done = [entry for entry in entries if entry.get("status", "success") == "success"]
        if len(done) >= count or time.monotonic() > deadline:
            return done
        time.sleep(0.2)

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.litellm import Settings, build_app
from sandbox.serving import served

CONFIG = Path(__file__).resolve().parents[3] / "litellm.config.yaml"
MASTER_KEY = "sk-master-key-of-the-stand-in"
VALUE = "sk-a-virtual-key-of-the-tests"
FREE, PRO = "groq-llama-3.1-8b", "tesslate-uigen-v1"


class Client(httpx.Client):
    """Calls as the master key, unless told otherwise."""

    def __init__(self, url: str) -> None:
        super().__init__(
            base_url=url, timeout=10, headers={"authorization": f"Bearer {MASTER_KEY}"}
        )

    def chat(self, value: str = VALUE, model: str = FREE, **more: object) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello there"}], **more}
        return self.post(
            "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {value}"}
        )

    def last_chat(self) -> dict[str, Any]:
        """What the request log says of the last chat request."""
        requests = self.get("/sandbox/requests").json()["requests"]
        return next(r for r in reversed(requests) if r["path"] == "/v1/chat/completions")


@pytest.fixture
def settings() -> Settings:
    return Settings(master_key=MASTER_KEY, config=CONFIG)


@pytest.fixture
def http(settings: Settings, socket_enabled: None) -> Iterator[Client]:
    with served(build_app(settings)) as url, Client(url) as client:
        yield client

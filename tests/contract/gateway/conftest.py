"""The gateway under contract: always the stand-in and, where LITELLM_CONTRACT_URL names one, the
real proxy as well (sandbox.real_litellm starts one and sets the rest: `make contract`).

    LITELLM_CONTRACT_URL, LITELLM_CONTRACT_MASTER_KEY     the proxy
    LITELLM_CONTRACT_PROVIDER_URL, …_PROVIDER_KEY         the stand-in behind its models: what it
                                                          is told to do wrong, the provider does
    LITELLM_CONTRACT_WINDOW, …_CACHE_TTL                  its rate limit window and key cache, in
                                                          seconds (60 and 60)
"""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from sandbox.litellm import Settings, build_app
from sandbox.serving import served

CONFIG = Path(__file__).resolve().parents[3] / "litellm.config.yaml"
MASTER_KEY = "sk-master-key-for-contract-tests"
ON_FREE, ON_PLUS, ON_PRO = "groq-llama-3.1-8b", "groq-llama-3.1-70b", "tesslate-uigen-v1"
BACKUP = "backup-llama-8b"
QUESTION = "What is the difference between a list and a tuple?"

# Well under any key cache, and room for a slow machine.
AT_ONCE = 2.0

Json = dict[str, Any]


@dataclass(frozen=True)
class VirtualKey:
    value: str

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.value.encode()).hexdigest()


@dataclass
class Gateway:
    """A client of the proxy, as its master or as a key."""

    http: httpx.Client
    master_key: str
    provider_url: str
    provider_key: str
    window: float
    cache_ttl: float
    made: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        """As the master key, unless `key` says otherwise."""
        key = options.pop("key", None)
        headers = options.pop("headers", {})
        value = self.master_key if key is None else key.value
        headers = {"Authorization": f"Bearer {value}", **headers}
        return self.http.request(method, path, json=body, headers=headers, **options)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.ask("POST", path, body)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.ask("GET", path, params=params)

    def key(self, **fields: Any) -> VirtualKey:
        """A new key with a value of ours."""
        key = new_value()
        answer = self.post("/key/generate", key=key.value, **fields)
        assert answer.status_code == 200, answer.text
        self.made.append(key.hash)
        return key

    def row(self, key: VirtualKey) -> Json:
        answer = self.get("/key/info", key=key.hash)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["info"])

    def budget(self, **limits: Any) -> str:
        name = unique("budget")
        assert self.post("/budget/new", budget_id=name, **limits).status_code == 200
        return name

    def team(self, *models: str) -> str:
        name = unique("team")
        answer = self.post("/team/new", team_id=name, team_alias=name, models=list(models))
        assert answer.status_code == 200, answer.text
        return name

    def chat(self, key: VirtualKey | None, model: str = ON_FREE, **more: Any) -> httpx.Response:
        headers = more.pop("headers", {})
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], **more}
        return self.ask("POST", "/v1/chat/completions", body, key=key, headers=headers)

    def stream(self, key: VirtualKey, model: str = ON_FREE, **more: Any) -> "Streamed":
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], **more}
        headers = {"Authorization": f"Bearer {key.value}"}
        body["stream"] = True
        with self.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            lines = [line for line in answer.iter_lines() if line]
        return Streamed(answer, [line.removeprefix("data: ") for line in lines])

    def provider_does_wrong(self, **fault: Any) -> None:
        """The next chat request to a provider meets this fault (see sandbox.faults)."""
        behind = self.provider_url != str(self.http.base_url).rstrip("/")
        route = "*/chat/completions" if behind else "provider/*"
        answer = httpx.post(
            f"{self.provider_url}/sandbox/faults",
            json={"route": route, "times": 1, **fault},
            headers={"Authorization": f"Bearer {self.provider_key}"},
        )
        assert answer.status_code == 201, answer.text

    def pace(self, tokens_per_second: float) -> None:
        answer = httpx.post(
            f"{self.provider_url}/sandbox/pace",
            json={"tokens_per_second": tokens_per_second},
            headers={"Authorization": f"Bearer {self.provider_key}"},
        )
        assert answer.status_code == 200, answer.text

    def provider_behaves(self) -> None:
        httpx.delete(
            f"{self.provider_url}/sandbox/faults",
            headers={"Authorization": f"Bearer {self.provider_key}"},
        )


@dataclass
class Streamed:
    answer: httpx.Response
    data: list[str]

    @property
    def frames(self) -> list[Json]:
        return [orjson.loads(text) for text in self.data if text != "[DONE]"]

    @property
    def text(self) -> str:
        choices = [choice for frame in self.frames for choice in frame.get("choices", [])]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def new_value() -> VirtualKey:
    return VirtualKey(f"sk-contract-{secrets.token_hex(16)}")


def unique(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


def until(claim: Callable[[], bool], *, within: float) -> None:
    """Return once the claim holds; fail when it does not in time."""
    deadline = time.monotonic() + within
    while not claim():
        assert time.monotonic() < deadline, f"did not come true within {within:g} s"
        time.sleep(0.05)


TARGETS = ["stand-in", *(["real"] if os.environ.get("LITELLM_CONTRACT_URL") else [])]


@pytest.fixture(scope="session", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    if request.param == "real":
        env = os.environ
        with httpx.Client(base_url=env["LITELLM_CONTRACT_URL"], timeout=30) as http:
            yield Gateway(
                http,
                env["LITELLM_CONTRACT_MASTER_KEY"],
                env.get("LITELLM_CONTRACT_PROVIDER_URL", ""),
                env.get("LITELLM_CONTRACT_PROVIDER_KEY", ""),
                float(env.get("LITELLM_CONTRACT_WINDOW", "60")),
                float(env.get("LITELLM_CONTRACT_CACHE_TTL", "60")),
            )
        return
    app = build_app(Settings(master_key=MASTER_KEY, config=CONFIG, window_seconds=3))
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as http:
        yield Gateway(http, MASTER_KEY, url, MASTER_KEY, 3, 0)


@pytest.fixture
def gateway(target: Gateway, socket_enabled: None) -> Iterator[Gateway]:
    yield target
    if target.made:
        target.post("/key/delete", keys=target.made)
        target.made.clear()


@pytest.fixture
def provider(gateway: Gateway) -> Iterator[Gateway]:
    """The gateway, where the provider behind it can be told to fail."""
    if not gateway.provider_url:
        pytest.skip("nothing is known of this proxy's provider")
    yield gateway
    gateway.provider_behaves()
    gateway.pace(0)

"""The LiteLLM stand-in in this process, as the transport of a LiteLLMClient, with faults at the
edge. Its store is open to tests, which play staff at the gateway with it."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import orjson

from llmkeys.litellm_client import LiteLLMClient
from sandbox.litellm import routes_keys
from sandbox.litellm.app import build_app
from sandbox.litellm.gateway import Gateway
from sandbox.litellm.records import Budget, Key, Team
from sandbox.litellm.settings import Settings

MASTER_KEY = "sk-test-master-key"
MODELS = ["small", "large", "huge"]
READS = {"/key/info", "/key/list", "/v1/models", "/budget/info", "/spend/logs/v2"}

# May raise an httpx error, answer in the gateway's place, or return None to let things go on.
Fault = Callable[[httpx.Request], httpx.Response | None]

# Its delay between looking for an alias and inserting is only for tests of that very race.
routes_keys.LOOK_BEFORE_INSERT_SECONDS = 0


class StandIn(httpx.BaseTransport):
    """The gateway, reached without a network."""

    def __init__(self, folder: Path, *, models: list[str] | None = None) -> None:
        config = folder / "gateway.yaml"
        config.write_bytes(orjson.dumps({"model_list": [_model(n) for n in models or MODELS]}))
        self.app = build_app(Settings(master_key=MASTER_KEY, config=config))
        self.gateway = cast(Gateway, self.app.reset.__self__)  # type: ignore[attr-defined]
        # Every management call that arrived: path, and body or query.
        self.calls: list[tuple[str, dict[str, Any]]] = []
        # Faults before the effect, and after it: an answer that never arrives.
        self.before: Fault | None = None
        self.after: Fault | None = None
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.close()

    # What it holds

    @property
    def keys(self) -> dict[str, Key]:
        return self.gateway.store.keys

    @property
    def teams(self) -> dict[str, Team]:
        return self.gateway.store.teams

    @property
    def budgets(self) -> dict[str, Budget]:
        return self.gateway.store.budgets

    def key(self, of: Any) -> Key:
        """The gateway's record of one of our keys."""
        return self.keys[of.key_hash]

    def spend(self, of: Any, dollars: float) -> None:
        """Let the key have been used."""
        self.key(of).spend = dollars

    def edit(self, of: Any, **fields: Any) -> None:
        """Staff change the key in LiteLLM's own pages."""
        key, store = self.key(of), self.gateway.store
        user_id, team_id = fields.pop("user_id", key.user_id), fields.pop("team_id", key.team_id)
        store.move_key(key, user_id=user_id, team_id=team_id)
        store.rename_key(key, fields.pop("key_alias", key.key_alias))
        for name, value in fields.items():
            setattr(key, name, value)
        store.save_key(key)

    def lose(self, of: Any) -> None:
        """The key is gone, as after a restore of an older backup."""
        self.gateway.store.delete_key(self.key(of))

    # What it was asked

    def writes(self, path: str = "") -> list[dict[str, Any]]:
        return [body for called, body in self.calls if called not in READS and path in called]

    def forget_calls(self) -> None:
        self.calls.clear()

    # Transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        body = orjson.loads(request.content) if request.content else dict(request.url.params)
        with self._lock:
            bearer = request.headers.get("authorization", "")
            if bearer.removeprefix("Bearer ") == MASTER_KEY:
                self.calls.append((path, body))
        if self.before is not None and (answer := self.before(request)) is not None:
            return answer
        with self._lock:
            answer = self._loop.run_until_complete(self._play(request))
        if self.after is not None and (other := self.after(request)) is not None:
            return other
        return answer

    async def _play(self, request: httpx.Request) -> httpx.Response:
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.url.path,
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": request.content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = sent
        content = b"".join(message.get("body", b"") for message in rest)
        return httpx.Response(start["status"], headers=start["headers"], content=content)


def client_of(standin: httpx.BaseTransport, **options: Any) -> LiteLLMClient:
    return LiteLLMClient(
        **{
            "url": "http://gateway.test",
            "master_keys": [MASTER_KEY],
            "timeout": 5,
            "concurrency": 4,
            "transport": standin,
            **options,
        }
    )


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _model(name: str) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": f"openai/{name}"}, "model_info": {}}

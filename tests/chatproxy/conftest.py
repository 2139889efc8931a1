"""A running chat server (real uvicorn, real sockets), a scripted gateway, and a subscriber."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import User
from chatproxy.models import ChatRequest
from llmkeys import provisioning
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, GatewayModel, Plan
from sandbox.litellm import Settings, build_app
from sandbox.serving import served
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt
from tesslate.lib.lifecycle import end_drain
from tests.chatproxy import gateway as scripted
from tests.factories import GatewayModelFactory, PlanFactory, UserFactory

PRODUCTION_CONFIG = Path(__file__).resolve().parents[2] / "litellm.config.yaml"
MASTER_KEY = "sk-master-key-of-the-stand-in"
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def gateway() -> Iterator[scripted.Gateway]:
    with scripted.running() as running:
        yield running


@pytest.fixture
def plans(transactional_db) -> dict[str, Plan]:
    """Free has basic-chat, pro has advanced-chat as well."""
    basic, advanced = (GatewayModelFactory.create(name=f"{n}-chat") for n in ("basic", "advanced"))
    free = PlanFactory.create(
        code="free", name="Free", rank=0, is_default=True, rpm=20, gateway_models=[basic]
    )
    pro = PlanFactory.create(code="pro", name="Pro", rank=20, gateway_models=[basic, advanced])
    return {"free": free, "pro": pro}


@pytest.fixture
def subscribe(plans) -> Callable[..., User]:
    """Make a user who may chat at once: entitled, with a key that the gateway knows."""

    def make(uid: str = "alice", plan: str = "free", **fields: Any) -> User:
        user: User = UserFactory.create(firebase_uid=uid, email=f"{uid}@example.com", **fields)
        give_key(user)
        now = timezone.now()
        CurrentEntitlement.objects.create(
            user=user,
            plan=plans[plan],
            source=CurrentEntitlement.Source.DEFAULT,
            period_start=now - timedelta(days=1),
            period_end=now + timedelta(days=29),
            decided_at=now,
        )
        return user

    return make


def give_key(user: User) -> None:
    key = provisioning.new_key(user_id=user.pk, label="default", cause=Cause.system("test"))
    key.observed = {}
    key.save()


@pytest.fixture
def alice(subscribe: Callable[..., User]) -> User:
    return subscribe("alice", display_name="Alice")


@dataclass
class Server:
    """The product's web process, as far as chat is concerned."""

    url: str
    application: Any
    client: httpx.Client
    token: str

    @property
    def runtime(self) -> Any:
        return self.application.runtime

    def headers(self, **headers: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", **headers}

    def chat(self, content: dict[str, Any] | bytes | None = None, **options: Any) -> httpx.Response:
        """A whole exchange at the front end's entrance."""
        body = {"messages": HELLO, "selectedModelId": "basic-chat"} if content is None else content
        options.setdefault("headers", self.headers())
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post("/api/proxy/chat", content=data, **options)

    def completions(self, content: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        body = {"messages": HELLO, "model": "basic-chat", **(content or {})}
        options.setdefault("headers", self.headers())
        return self.client.post("/api/proxy/v1/chat/completions", json=body, **options)

    def stream(self, content: dict[str, Any] | None = None, **options: Any) -> Any:
        body = {"messages": HELLO, "selectedModelId": "basic-chat", **(content or {})}
        options.setdefault("headers", self.headers())
        return self.client.stream("POST", "/api/proxy/chat", json=body, **options)

    def flush(self) -> None:
        assert self.runtime.ledger.flush()

    def rows(self) -> QuerySet[ChatRequest]:
        self.flush()
        return ChatRequest.objects.order_by("started_at")

    def row(self) -> ChatRequest:
        """The only request so far, waited for: abandoned ones settle a moment later."""
        deadline = time.monotonic() + 5
        while not (rows := list(self.rows())) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(rows) == 1
        return rows[0]


@pytest.fixture
def threads_connections() -> Iterator[None]:
    """Threads of a server end with their connections open; here those are closed."""
    opened: list[BaseDatabaseWrapper] = []

    def note(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            connection.inc_thread_sharing()
            opened.append(connection)

    connection_created.connect(note)
    yield
    connection_created.disconnect(note)
    for connection in opened:
        connection.close()


@pytest.fixture
def start_server(
    transactional_db, gateway, firebase, settings, tmp_path, threads_connections
) -> Iterator[Callable[[], Server]]:
    """Start the web process; settings changed before are in force."""
    from tesslate.asgi import application, chat

    settings.LITELLM_URL = gateway.url
    settings.CHAT_SPILL_DIR = str(tmp_path / "spill")
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    running = []

    def start() -> Server:
        context = served(application)
        url = context.__enter__()
        client = httpx.Client(base_url=url, timeout=10)
        running.append((context, client))
        token = firebase.token("alice", email="alice@example.com")
        return Server(url, chat, client, token)

    yield start
    for context, client in running:
        client.close()
        context.__exit__(None, None, None)
    end_drain()


@pytest.fixture
def server(start_server: Callable[[], Server], alice: User) -> Server:
    """Alice is a subscriber of the free plan and the caller by default."""
    return start_server()


@dataclass
class StandIn:
    """The product in front of LiteLLM's stand-in, which holds Alice's key, and its master."""

    server: Server
    master: httpx.Client
    key_hash: str

    def spend(self) -> Decimal:
        info = self.master.get("/key/info", params={"key": self.key_hash}).json()["info"]
        return Decimal(str(info["spend"]))


@pytest.fixture
def stand_in_settings() -> Settings:
    return Settings(master_key=MASTER_KEY, config=PRODUCTION_CONFIG)


@pytest.fixture
def stand_in(alice, start_server, settings, stand_in_settings) -> Iterator[StandIn]:
    """Its model is basic-chat."""
    key = VirtualKey.objects.get(user=alice)
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    with (
        served(build_app(stand_in_settings)) as url,
        httpx.Client(base_url=url, headers=headers) as client,
    ):
        made = {"key": decrypt(key.secret), "models": ["basic-chat"], "key_type": "llm_api"}
        assert client.post("/key/generate", json=made).status_code == 200
        settings.LITELLM_URL = url
        settings.LITELLM_MASTER_KEYS = [MASTER_KEY]
        yield StandIn(start_server(), client, key.key_hash)


def events(body: str) -> list[tuple[str, str]]:
    """(event, data) of every frame; comments are left out."""
    found = []
    for frame in body.split("\n\n"):
        lines = [line for line in frame.splitlines() if line and not line.startswith(":")]
        name = next((line[7:] for line in lines if line.startswith("event: ")), "message")
        data = "\n".join(line[6:] for line in lines if line.startswith("data: "))
        if lines:
            found.append((name, data))
    return found


def text_of(body: str) -> str:
    parts = []
    for name, data in events(body):
        if name == "message" and data != "[DONE]":
            for choice in json.loads(data)["choices"]:
                parts.append(choice["delta"].get("content") or "")
    return "".join(parts)


def disable(model: str) -> None:
    GatewayModel.objects.filter(name=model).update(disabled_at=timezone.now())


def eventually(check: Callable[[], Any], seconds: float = 5.0) -> Any:
    """What ``check`` answers once that is true, or at the end."""
    deadline = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def until_answered(ask: Callable[[], httpx.Response]) -> httpx.Response:
    deadline = time.monotonic() + 5
    while (response := ask()).status_code != 200:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.02)
    return response

"""The web process as a whole: stopping, starvation, a database that goes away."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
from django.db import OperationalError, connection

from accounts.models import ApiToken
from accounts.tokens import create_token
from chatproxy.models import ChatRequest
from plans.models import Plan
from sandbox.engines import free_port
from tesslate.lib.cause import Cause
from tests.chatproxy.conftest import HELLO, events, text_of
from tests.chatproxy.gateway import USAGE
from tests.migrated import url_of

BODY = {"messages": HELLO, "selectedModelId": "basic-chat"}


@pytest.fixture
def process(gateway, alice, tmp_path):
    """A web process of its own, and a client with a token of Alice's."""
    port = free_port()
    scopes = [ApiToken.Scope.CHAT]
    _, token = create_token(
        user=alice, name="t", scopes=scopes, expires_at=None, cause=Cause.system("test")
    )
    environment = {
        "DATABASE_URL": url_of(connection.settings_dict["NAME"]),
        "LITELLM_URL": gateway.url,
        "CHAT_DRAIN_SECONDS": "2",
        "CHAT_SPILL_DIR": str(tmp_path / "spill"),
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    options = ["--loop", "uvloop", "--http", "httptools", "--timeout-graceful-shutdown", "8"]
    command = [sys.executable, "-m", "uvicorn", "tesslate.asgi:application", *options]
    running = subprocess.Popen(
        [*command, "--port", str(port)], env={**os.environ, **environment}, stderr=subprocess.PIPE
    )
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
        deadline = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < deadline:
            try:
                client.get("/health/live")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert running.poll() is None, running.communicate()[1].decode()
        yield running, client
    if running.poll() is None:
        running.terminate()
    running.communicate(timeout=20)


def wait(check, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert check()


def ask_in_background(client, results):
    def ask():
        response = client.post("/api/proxy/chat", json=BODY)
        results.append(response)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_P08_a_stream_that_ends_within_the_drain_time_is_whole(process, gateway):
    running, client = process
    stopping = threading.Event()

    async def slow(asked, wire):
        await wire.start()
        await wire.say("before ")
        while not stopping.is_set():
            await wire.wait_gone(0.01)
        await wire.wait_gone(0.5)
        await wire.say("after")
        await wire.finish(USAGE)

    gateway.script = slow
    results: list[httpx.Response] = []
    thread = ask_in_background(client, results)
    wait(lambda: gateway.asked)
    running.send_signal(signal.SIGTERM)
    stopping.set()
    thread.join(20)
    assert text_of(results[0].text) == "before after"
    assert running.wait(15) in (0, -signal.SIGTERM)
    assert ChatRequest.objects.get().outcome == ChatRequest.Outcome.COMPLETED


def test_P08_a_stream_that_outlives_it_ends_with_an_error_and_is_on_the_books(process, gateway):
    running, client = process

    async def endless(asked, wire):
        await wire.start()
        while True:
            await wire.say("more ")
            await wire.wait_gone(0.1)

    gateway.script = endless
    results: list[httpx.Response] = []
    thread = ask_in_background(client, results)
    wait(lambda: gateway.asked)
    time.sleep(0.3)
    running.send_signal(signal.SIGTERM)
    thread.join(20)
    name, data = events(results[0].text)[-1]
    assert (name, json.loads(data)["error"]["code"]) == ("error", "shutting_down")
    assert running.wait(15) in (0, -signal.SIGTERM)
    row = ChatRequest.objects.get()
    assert (row.outcome, row.error_code) == (ChatRequest.Outcome.BROKEN, "shutting_down")
    assert row.completion_tokens > 0
    assert gateway.last.cancelled_at is not None


def test_a_killed_process_loses_nothing_that_ended_a_second_before(process, gateway):
    running, client = process
    for _ in range(5):
        assert client.post("/api/proxy/chat", json=BODY).status_code == 200
    time.sleep(1)
    running.kill()
    running.wait(5)
    assert ChatRequest.objects.count() == 5


def test_P14_two_hundred_slow_streams_do_not_starve_the_webhook(start_server, alice, gateway):
    Plan.objects.update(max_parallel_requests=500)
    server = start_server()
    go_on = threading.Event()

    async def slow(asked, wire):
        await wire.start()
        await wire.say("x")
        while not go_on.is_set():
            await wire.wait_gone(0.05)
        await wire.finish(USAGE)

    gateway.script = slow
    limits = httpx.Limits(max_connections=300)
    with httpx.Client(base_url=server.url, timeout=60, limits=limits) as client:
        results: list[int] = []

        def ask() -> None:
            response = client.post("/api/proxy/chat", json=BODY, headers=server.headers())
            results.append(response.status_code)

        threads = [threading.Thread(target=ask) for _ in range(200)]
        for thread in threads:
            thread.start()
        wait(lambda: len(server.runtime.live) == 200, seconds=30)
        before = threading.active_count()
        begun = time.monotonic()
        # Refused for its signature, which is as far as the question goes.
        assert client.post("/webhooks/stripe", content=b"{}").status_code == 400
        assert time.monotonic() - begun < 1
        assert client.get("/health/live").status_code == 200
        assert threading.active_count() <= before + 10
        go_on.set()
        for thread in threads:
            thread.join(30)
    assert results == [200] * 200


def test_a_warm_process_serves_on_while_the_database_is_gone(server, gateway, monkeypatch):
    assert server.chat().status_code == 200
    server.flush()

    def down(*args: object) -> None:
        raise OperationalError("down")

    with monkeypatch.context() as patched:
        patched.setattr(server.runtime.ledger, "_write", down)
        patched.setattr("chatproxy.identity.load_caller", down)
        patched.setattr("chatproxy.runtime.load_catalogue", down)
        assert [server.chat().status_code for _ in range(3)] == [200] * 3
        # What is remembered grows old; it is still better than nothing.
        for memory in (server.runtime.identities.callers, server.runtime._catalogue):
            for key, (_, value) in list(memory._kept.items()):
                memory._kept[key] = (time.monotonic() - 1, value)
        assert server.chat().status_code == 200
        server.flush()
    server.runtime.ledger._pause_until = server.runtime.ledger._next_replay = 0.0
    wait(lambda: ChatRequest.objects.count() == 5)

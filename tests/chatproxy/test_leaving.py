"""What becomes of a request whose client leaves, and what it costs."""

import asyncio
import json
import re
import socket
import threading
import time

import httpx

from chatproxy.models import ChatRequest
from plans.models import Plan
from tests.chatproxy.conftest import HELLO, text_of
from tests.chatproxy.gateway import USAGE, chunk

Outcome = ChatRequest.Outcome


def leave(server, when: threading.Event | None = None, *, read: int = 1) -> float:
    """Ask, read ``read`` chunks, close the connection; answers when that was."""
    with server.stream() as response:
        chunks = response.iter_raw(chunk_size=1)
        for _ in range(read):
            next(chunks)
        if when is not None:
            when.wait(5)
    server.client.close()
    return time.monotonic()


async def talks_for_ever(asked, wire):
    await wire.start()
    await wire.frame(chunk(delta={"role": "assistant", "content": ""}))
    for _ in range(5):
        await wire.say("token ")
    await wire.wait_gone(10)


def test_P02_client_gone_mid_stream_cancels_upstream_within_100_ms(server, gateway):
    gateway.script = talks_for_ever

    def delay() -> float:
        with httpx.Client(base_url=server.url, timeout=5) as client:
            server.client = client
            left_at = leave(server, read=200)
        assert gateway.last.done.wait(5)
        seconds: float = gateway.last.cancelled_at - left_at
        return seconds

    # Nothing on our side waits; a busy machine may, now and then.
    assert any(delay() < 0.1 for _ in range(5))


def test_P02_what_was_delivered_to_a_client_that_left_is_recorded(server, gateway):
    gateway.script = talks_for_ever
    leave(server, read=200)
    row = server.row()
    assert (row.outcome, row.status) == (Outcome.ABANDONED, 200)
    assert row.is_estimated
    assert 1 <= row.completion_tokens <= 12
    assert row.decision["upstream"] == "cancelled"


def test_P02_client_gone_before_the_first_byte_is_recorded_too(server, gateway):
    async def thinks(asked, wire):
        await wire.wait_gone(10)

    gateway.script = thinks
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
        body = json.dumps({"messages": HELLO, "selectedModelId": "basic-chat"})
        client.sendall(
            f"POST /api/proxy/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
            f"{server.token}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        while not gateway.asked:
            time.sleep(0.01)
    assert gateway.last.done.wait(5)
    assert gateway.last.cancelled_at is not None
    row = server.row()
    assert (row.outcome, row.status, row.ttfb_ms) == (Outcome.ABANDONED, 499, None)
    assert row.completion_tokens == 0


def test_P02_leaving_after_the_last_token_is_a_clean_end(server, gateway):
    told = threading.Event()

    async def lingers(asked, wire):
        await wire.start()
        await wire.say("all of it")
        await wire.frame(chunk(delta={}, finish_reason="stop"))
        told.set()
        await asyncio.sleep(0.3)
        await wire.frame({**chunk(), "choices": [], "usage": USAGE})
        await wire.send("data: [DONE]\n\n")
        await wire.end()

    gateway.script = lingers
    with server.stream() as response:
        received = b""
        for data in response.iter_raw():
            received += data
            if b'"finish_reason":"stop"' in received:
                break
    server.client.close()
    row = server.row()
    assert row.outcome == Outcome.COMPLETED
    assert not row.is_estimated
    assert row.completion_tokens == 3


def test_an_abort_before_the_first_token_may_cost_nothing(server, gateway, plans):
    Plan.objects.update(abort_billing=Plan.AbortBilling.AFTER_FIRST_TOKEN)

    async def thinks(asked, wire):
        await wire.start()
        await wire.send(": thinking\n\n")
        await wire.wait_gone(10)

    gateway.script = thinks
    leave(server, read=3)
    row = server.row()
    assert row.outcome == Outcome.ABANDONED
    assert (row.prompt_tokens, row.completion_tokens, row.cost) == (0, 0, 0)


def test_an_abort_under_the_generated_policy_is_read_to_its_end(server, gateway, plans):
    Plan.objects.update(abort_billing=Plan.AbortBilling.GENERATED)
    gone = threading.Event()

    async def goes_on(asked, wire):
        await wire.start()
        await wire.say("one ")
        await asyncio.to_thread(gone.wait, 10)
        for _ in range(9):
            await wire.say("more ")
        await wire.finish({**USAGE, "completion_tokens": 10})

    gateway.script = goes_on
    leave(server, read=20)
    gone.set()
    row = server.row()
    assert (row.outcome, row.completion_tokens) == (Outcome.ABANDONED, 10)
    assert not row.is_estimated
    assert row.decision["upstream"] == "drained"


def test_P03_a_client_that_stops_reading_is_cut_and_upstream_cancelled(
    start_server, alice, gateway, settings, monkeypatch
):
    settings.CHAT_WRITE_TIMEOUT_SECONDS = 0.2
    monkeypatch.setattr("chatproxy.runtime.TICK_SECONDS", 0.05)
    server = start_server()

    async def floods(asked, wire):
        await wire.start()
        while True:
            await wire.frame(chunk(delta={"content": "x" * 60_000}))

    gateway.script = floods
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps({"messages": HELLO, "selectedModelId": "basic-chat"})
        client.sendall(
            f"POST /api/proxy/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
            f"{server.token}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        row = server.row()
        assert gateway.last.done.wait(5)
    assert row.outcome == Outcome.ABANDONED


def test_nothing_is_left_behind_after_storms_of_aborts(server, gateway):
    gateway.script = talks_for_ever

    def storm() -> None:
        for _ in range(5):
            with httpx.Client(base_url=server.url, timeout=5) as client:
                body = {"messages": HELLO, "selectedModelId": "basic-chat"}
                with client.stream(
                    "POST", "/api/proxy/chat", json=body, headers=server.headers()
                ) as response:
                    next(response.iter_raw())

    Plan.objects.update(max_parallel_requests=100)
    server.runtime.identities.forget_all()
    server.runtime._catalogue.forget_all()
    threads = [threading.Thread(target=storm) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 5
    while (gateway.open_connections or server.runtime.live) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gateway.open_connections == 0
    assert not server.runtime.live
    assert not server.runtime._running
    outcomes = list(server.rows().values_list("outcome", flat=True))
    assert outcomes == [Outcome.ABANDONED] * 40


def test_P03_a_slow_reader_slows_only_itself_and_gets_everything_in_order(server, gateway):
    frames = 300
    sent = 0

    async def floods(asked, wire):
        nonlocal sent
        await wire.start()
        for n in range(frames):
            await wire.frame(chunk(delta={"content": f"<{n}>" + "x" * 50_000}))
            sent = n + 1
        await wire.finish(USAGE)

    gateway.next = [floods]
    with server.stream() as response:
        chunks = response.iter_text()
        read = next(chunks)
        with httpx.Client(base_url=server.url, timeout=5, headers=server.headers()) as other:
            body = {"messages": HELLO, "selectedModelId": "basic-chat"}
            assert text_of(other.post("/api/proxy/chat", json=body).text) == "one two three"
        # The gateway had to stop: what is on the way is bounded by buffers, not by the answer.
        assert sent < frames
        read += "".join(chunks)
    assert [int(n) for n in re.findall(r"<(\d+)>", read)] == list(range(frames))
    assert read.endswith("data: [DONE]\n\n")
    outcomes = list(server.rows().values_list("outcome", flat=True))
    assert outcomes == [Outcome.COMPLETED] * 2

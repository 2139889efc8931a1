"""What the gateway may send that it should not, at every point of a stream."""

import json
import socket
import threading
import time

import httpx
import pytest

from chatproxy.models import ChatRequest
from plans.models import Plan
from tests.chatproxy.conftest import HELLO, events, text_of
from tests.chatproxy.gateway import USAGE, chunk, refuses

Outcome = ChatRequest.Outcome


def test_P04_a_stream_that_is_cut_ends_with_an_error_and_no_done(server, gateway):
    async def dies(asked, wire):
        await wire.start()
        await wire.frame(chunk(delta={"role": "assistant", "content": ""}))
        await wire.say("half an ")
        wire.hang_up()

    gateway.script = dies
    response = server.chat()
    name, data = events(response.text)[-1]
    assert name == "error"
    assert json.loads(data)["error"]["code"] == "stream_broken"
    assert "[DONE]" not in response.text
    assert text_of(response.text.split("event: error")[0]) == "half an "
    row = server.row()
    assert (row.outcome, row.error_code, row.status) == (Outcome.BROKEN, "stream_broken", 200)
    assert row.is_estimated
    assert row.completion_tokens >= 1


def test_P05_an_error_frame_followed_by_done_is_no_success(server, gateway):
    """What LiteLLM does when a provider dies mid-stream."""

    async def errs(asked, wire):
        await wire.start()
        await wire.frame(chunk(delta={"role": "assistant", "content": ""}))
        await wire.say("tok0 ")
        await wire.frame(
            {"error": {"message": "litellm: key gsk_123 died", "type": "internal_server_error"}}
        )
        await wire.send("data: [DONE]\n\n")
        await wire.end()

    gateway.script = errs
    response = server.chat()
    assert events(response.text)[-1][0] == "error"
    assert "[DONE]" not in response.text
    assert "gsk_123" not in response.text
    assert server.row().outcome == Outcome.BROKEN


def test_P05_an_error_frame_first_of_all(server, gateway):
    async def errs(asked, wire):
        await wire.start()
        await wire.frame({"error": {"message": "x", "type": "internal_server_error"}})
        await wire.send("data: [DONE]\n\n")
        await wire.end()

    gateway.script = errs
    assert [name for name, _ in events(server.chat().text)] == ["error"]


@pytest.mark.parametrize("size", [1, 7, 50])
def test_P05_frames_cut_anywhere_arrive_whole(server, gateway, size):
    """Also inside a character: "é" and "🦀" take several bytes."""
    frames = b"".join(
        b"data: "
        + json.dumps(chunk(delta={"content": text}), ensure_ascii=False).encode()
        + b"\n\n"
        for text in ("naïve ", "café ", "🦀🦀", " end")
    )

    async def slices(asked, wire):
        await wire.start()
        for at in range(0, len(frames), size):
            await wire.raw(b"%x\r\n%b\r\n" % (len(frames[at : at + size]), frames[at : at + size]))
        await wire.finish(USAGE)

    gateway.script = slices
    response = server.chat()
    assert text_of(response.text) == "naïve café 🦀🦀 end"
    assert server.row().outcome == Outcome.COMPLETED


def test_P05_crlf_comments_and_several_data_lines_are_understood(server, gateway):
    async def odd(asked, wire):
        await wire.start()
        await wire.send(": ping\r\n\r\n")
        one = json.dumps(chunk(delta={"content": "one "}))
        await wire.send(f"event: message\r\nid: 7\r\ndata: {one}\r\n\r")
        await wire.send("\n")
        two = json.dumps(chunk(delta={"content": "two"}), indent=1)
        await wire.send("".join(f"data: {line}\n" for line in two.splitlines()) + "\n")
        await wire.finish(USAGE)

    gateway.script = odd
    response = server.chat()
    assert text_of(response.text) == "one two"
    row = server.row()
    assert row.outcome == Outcome.COMPLETED
    assert row.completion_tokens == 3


def test_P05_a_malformed_frame_is_left_out(server, gateway):
    async def garbles(asked, wire):
        await wire.start()
        await wire.say("one ")
        await wire.send('data: {"choices": [{"delta": \n\n')
        await wire.send("data: 17\n\n")
        await wire.say("two")
        await wire.finish(USAGE)

    gateway.script = garbles
    response = server.chat()
    assert text_of(response.text) == "one two"
    assert server.row().outcome == Outcome.COMPLETED


def test_P05_done_is_added_where_the_model_finished_without_it(server, gateway):
    async def forgets(asked, wire):
        await wire.start()
        await wire.say("all of it")
        await wire.frame(chunk(delta={}, finish_reason="stop"))
        await wire.end()

    gateway.script = forgets
    response = server.chat()
    assert events(response.text)[-1] == ("message", "[DONE]")
    row = server.row()
    assert row.outcome == Outcome.COMPLETED
    assert row.is_estimated


def test_P05_an_end_without_finish_or_done_is_a_broken_stream(server, gateway):
    async def stops(asked, wire):
        await wire.start()
        await wire.say("and then")
        await wire.end()

    gateway.script = stops
    assert events(server.chat().text)[-1][0] == "error"
    assert server.row().outcome == Outcome.BROKEN


def test_P05_a_giant_frame_passes(server, gateway):
    text = "x" * 3_000_000

    async def shouts(asked, wire):
        await wire.start()
        await wire.say(text)
        await wire.finish(USAGE)

    gateway.script = shouts
    assert text_of(server.chat().text) == text


def test_P05_a_frame_without_end_breaks_the_stream_instead_of_filling_memory(server, gateway):
    async def never_ends(asked, wire):
        await wire.start()
        for _ in range(200):
            await wire.raw(b"%x\r\n%b\r\n" % (65536, b"x" * 65536))

    gateway.script = never_ends
    assert events(server.chat().text)[-1][0] == "error"
    assert gateway.last.done.wait(5)


def test_U12_usage_that_nobody_tells_is_estimated_and_marked(server, gateway):
    async def tells_nothing(asked, wire):
        await wire.start()
        await wire.frame(chunk(delta={"role": "assistant", "content": ""}))
        for _ in range(10):
            await wire.say("tok ")
        await wire.finish()

    gateway.script = tells_nothing
    assert server.chat().status_code == 200
    row = server.row()
    assert row.is_estimated
    # Ten tokens and the chunk that finishes.
    assert 10 <= row.completion_tokens <= 12
    assert row.prompt_tokens > 0


def test_U10_usage_without_cost_leaves_the_cost_unknown_rather_than_zero(server, gateway):
    async def unpriced(asked, wire):
        await wire.start()
        await wire.say("x")
        await wire.finish({"prompt_tokens": 5, "completion_tokens": 1})

    gateway.script = unpriced
    server.chat()
    assert server.row().cost is None


def test_U11_a_fallback_is_recorded_with_the_model_that_answered(server, gateway):
    async def falls_back(asked, wire):
        await wire.start(x_litellm_model_group="basic-backup")
        await wire.say("x")
        await wire.finish(USAGE)

    gateway.script = falls_back
    server.chat()
    row = server.row()
    assert (row.model, row.served_model) == ("basic-chat", "basic-backup")


def test_usage_in_the_finishing_chunk_is_taken_out_and_the_rest_kept(server, gateway):
    async def combined(asked, wire):
        await wire.start()
        await wire.say("x")
        await wire.frame({**chunk(delta={}, finish_reason="stop"), "usage": USAGE})
        await wire.send("data: [DONE]\n\n")
        await wire.end()

    gateway.script = combined
    response = server.chat()
    assert '"finish_reason":"stop"' in response.text
    assert '"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14,"cost"' not in (
        response.text
    )
    assert server.row().completion_tokens == 3


# Leaving


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
    left_at = leave(server, read=200)
    assert gateway.last.done.wait(5)
    assert gateway.last.cancelled_at - left_at < 0.1
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
    left_at = time.monotonic()
    assert gateway.last.done.wait(5)
    assert gateway.last.cancelled_at - left_at < 0.1
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
        import asyncio

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
        while not gone.is_set():
            import asyncio

            await asyncio.sleep(0.01)
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
    start_server, alice, gateway, settings
):
    settings.CHAT_WRITE_TIMEOUT_SECONDS = 1
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


# Silence and retries


def test_P16_a_silent_stream_gets_comments_and_headers_keep_proxies_from_buffering(
    start_server, alice, gateway, settings
):
    settings.CHAT_KEEPALIVE_SECONDS = 1
    server = start_server()

    async def thinks(asked, wire):
        await wire.start()
        await wire.say("well ")
        await wire.wait_gone(2.6)
        await wire.say("yes")
        await wire.finish(USAGE)

    gateway.script = thinks
    response = server.chat()
    assert response.text.count(": keep-alive\n\n") >= 1
    assert text_of(response.text) == "well yes"
    assert response.headers["x-accel-buffering"] == "no"
    assert "no-transform" in response.headers["cache-control"]
    assert "content-encoding" not in response.headers


def test_P16_a_gateway_that_thinks_before_its_first_byte_keeps_the_client_alive_too(
    start_server, alice, gateway, settings
):
    settings.CHAT_KEEPALIVE_SECONDS = 1
    server = start_server()

    async def thinks(asked, wire):
        await wire.wait_gone(2.6)
        await refuses(500, "internal_server_error")(asked, wire)

    gateway.script = thinks
    response = server.chat()
    assert response.status_code == 200
    assert response.text.startswith(": keep-alive\n\n")
    name, data = events(response.text)[-1]
    assert (name, json.loads(data)["error"]["code"]) == ("error", "provider_error")


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_that_is_not_there_for_a_moment_is_asked_again(server, gateway, status):
    gateway.next = [refuses(status, "internal_server_error")]
    assert text_of(server.chat().text) == "one two three"
    assert len(gateway.asked) == 2
    assert server.row().outcome == Outcome.COMPLETED


def test_a_connection_reset_before_the_answer_is_asked_again(server, gateway):
    async def resets(asked, wire):
        wire.hang_up()

    gateway.next = [resets]
    assert text_of(server.chat().text) == "one two three"
    assert len(gateway.asked) == 2
    first, second = (asked.headers["x-litellm-call-id"] for asked in gateway.asked)
    assert first != second


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "key_model_access_denied"),
        (422, "budget_exceeded"),
        (500, "internal_server_error"),
    ],
)
def test_what_is_the_callers_answer_is_not_asked_again(server, gateway, status, type):
    gateway.script = refuses(status, type)
    server.chat()
    assert len(gateway.asked) == 1


def test_a_stream_that_broke_is_not_asked_again(server, gateway):
    async def dies(asked, wire):
        await wire.start()
        await wire.say("half")
        wire.hang_up()

    gateway.script = dies
    server.chat()
    assert len(gateway.asked) == 1


def test_a_gateway_that_is_down_is_503(start_server, alice, gateway, settings):
    settings.LITELLM_URL = "http://127.0.0.1:1"
    server = start_server()
    response = server.chat()
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "gateway_unavailable"
    assert int(response.headers["retry-after"]) >= 1
    row = server.row()
    assert (row.outcome, row.error_code) == (Outcome.FAILED, "gateway_unavailable")


def test_connections_to_the_gateway_are_reused(server, gateway):
    for _ in range(5):
        server.chat()
    # The end of one answer may cross the next request, and prices are asked for.
    assert gateway.connections <= 3


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

"""What the gateway may send that it should not, at every point of a stream."""

import json

import pytest

from chatproxy.models import ChatRequest
from tests.chatproxy.conftest import events, text_of
from tests.chatproxy.gateway import USAGE, answers_plainly, chunk

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
    usage = server.client.get("/api/usage", headers=server.headers()).json()
    assert (usage["total"]["unpriced"], float(usage["total"]["cost"])) == (1, 0)


def test_U14_an_answers_id_that_the_gateway_repeats_or_leaves_out_loses_no_request(server, gateway):
    async def anonymous(asked, wire):
        await wire.start()
        for frame in (chunk(delta={"content": "x"}), {**chunk(), "choices": [], "usage": USAGE}):
            del frame["id"]
            await wire.frame(frame)
        await wire.send("data: [DONE]\n\n")
        await wire.end()

    for script in (answers_plainly, answers_plainly, anonymous, anonymous):
        gateway.script = script
        server.chat()
    rows = list(server.rows())
    ids = [row.gateway_response_id for row in rows]
    assert ids == ["chatcmpl-test", "chatcmpl-test", "", ""]
    # Each is told apart by the call id, which is ours, and each counts.
    assert len({row.gateway_call_id for row in rows}) == 4
    assert sum(row.total_tokens for row in rows) == 4 * USAGE["total_tokens"]


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

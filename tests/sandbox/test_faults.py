"""Faults as a client meets them, around a small app that answers in two ways."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from sandbox.asgi import Receive, Scope, Send, answer_json, header, read_body
from sandbox.faults import Sandbox
from sandbox.serving import served

ADMIN = {"authorization": "Bearer sk-admin-of-the-sandbox"}


class Shop:
    """The app under faults: counts what it sold; /stream sends five pieces."""

    def __init__(self) -> None:
        self.sold = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(5):
                body = b"data: %d\n\n" % number
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
            return
        await read_body(receive)
        self.sold += 1
        await answer_json(send, 200, {"sold": self.sold, "padding": "x" * 200})

    def reset(self) -> None:
        self.sold = 0


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def http(shop: Shop, socket_enabled: None) -> Iterator[httpx.Client]:
    app = Sandbox(
        shop,
        authorize=lambda scope: header(scope, b"authorization") == ADMIN["authorization"].encode(),
        caller=lambda scope: "alice" if header(scope, b"x-alice") else None,
        envelope=lambda status: json.dumps({"usual": status}).encode(),
        reset=shop.reset,
    )
    with served(app) as url, httpx.Client(base_url=url, timeout=3) as client:
        yield client


def switch_on(http: httpx.Client, **fault: object) -> httpx.Response:
    return http.post("/sandbox/faults", json=fault, headers=ADMIN)


def test_controls_need_the_admin_key(http: httpx.Client) -> None:
    for method, path in (("GET", "faults"), ("POST", "faults"), ("POST", "reset")):
        assert http.request(method, f"/sandbox/{path}").status_code == 401
    assert http.get("/sandbox/requests").status_code == 401


def test_status_strikes_as_often_as_told_with_the_usual_envelope(http: httpx.Client, shop: Shop):
    assert switch_on(http, route="POST /buy", kind="status", times=2).status_code == 201
    answers = [http.post("/buy") for _ in range(3)]
    assert [a.status_code for a in answers] == [500, 500, 200]
    assert answers[0].json() == {"usual": 500}
    assert shop.sold == 1


def test_status_with_own_body_and_retry_after(http: httpx.Client) -> None:
    switch_on(http, route="*", kind="status", status=429, body={"no": 1}, retry_after=7)
    answer = http.get("/buy")
    assert (answer.status_code, answer.json()) == (429, {"no": 1})
    assert answer.headers["retry-after"] == "7"


def test_fault_of_one_method_or_one_caller_leaves_others_alone(http: httpx.Client) -> None:
    switch_on(http, route="POST /buy", kind="status")
    assert http.get("/buy").status_code == 200
    http.delete("/sandbox/faults", headers=ADMIN)
    switch_on(http, route="/b*", kind="status", caller="alice")
    assert http.get("/buy").status_code == 200
    assert http.get("/buy", headers={"x-alice": "1"}).status_code == 500


def test_probability_strikes_a_share_of_the_requests(http: httpx.Client) -> None:
    switch_on(http, route="/buy", kind="status", probability=0.5)
    struck = sum(http.get("/buy").status_code == 500 for _ in range(60))
    assert 15 < struck < 45


def test_deleting_one_fault_keeps_the_other(http: httpx.Client) -> None:
    first = switch_on(http, route="/buy", kind="status").json()["id"]
    switch_on(http, route="/stream", kind="status")
    http.delete(f"/sandbox/faults/{first}", headers=ADMIN)
    assert http.get("/buy").status_code == 200
    assert http.get("/stream").status_code == 500


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("kind", ["reset", "status", "garbage"])
def test_lost_answer_did_its_work_only_when_told(
    http: httpx.Client, shop: Shop, kind: str, after_effect: bool
) -> None:
    switch_on(http, route="/buy", kind=kind, after_effect=after_effect)
    try:
        answer = http.post("/buy")
    except httpx.TransportError:
        assert kind == "reset"
    else:
        with pytest.raises((ValueError, KeyError)):
            answer.json()["sold"]
    assert shop.sold == after_effect


def test_timeout_answers_nothing_and_ends_when_the_client_leaves(http: httpx.Client, shop: Shop):
    switch_on(http, route="/buy", kind="timeout", times=1)
    with pytest.raises(httpx.ReadTimeout):
        http.get("/buy", timeout=0.2)
    assert http.get("/buy").status_code == 200
    assert shop.sold == 1


def test_timeout_with_delay_resets_in_the_end(http: httpx.Client) -> None:
    switch_on(http, route="/buy", kind="timeout", delay=0.1)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        http.get("/buy")


@pytest.mark.parametrize("after_effect", [False, True])
def test_slow_waits_before_or_after_the_work(
    http: httpx.Client, shop: Shop, after_effect: bool
) -> None:
    switch_on(http, route="/buy", kind="slow", delay=0.4, after_effect=after_effect)
    begun = time.monotonic()
    asking = threading.Thread(target=lambda: http.get("/buy"))
    asking.start()
    time.sleep(0.2)
    assert shop.sold == after_effect
    asking.join()
    assert shop.sold == 1
    assert time.monotonic() - begun >= 0.4


def test_torn_promises_more_than_it_sends(http: httpx.Client) -> None:
    switch_on(http, route="/buy", kind="torn")
    with http.stream("GET", "/buy") as answer:
        assert int(answer.headers["content-length"]) > 200
        with pytest.raises(httpx.TransportError):
            answer.read()


def read_stream(http: httpx.Client) -> tuple[str, bool]:
    """What came of the stream, and whether it ended as a stream should."""
    text = ""
    try:
        with http.stream("GET", "/stream", timeout=0.5) as answer:
            for piece in answer.iter_text():
                text += piece
    except httpx.TransportError:
        return text, False
    return text, True


def test_streams_break_err_fall_silent_or_turn_to_garbage(http: httpx.Client) -> None:
    two = "data: 0\n\ndata: 1\n\n"
    switch_on(http, route="/stream", kind="stream_break", after_chunks=2, times=1)
    assert read_stream(http) == (two, False)
    switch_on(http, route="/stream", kind="silence", after_chunks=2, times=1)
    assert read_stream(http) == (two, False)
    switch_on(http, route="/stream", kind="stream_error", after_chunks=2, times=1)
    text, ended = read_stream(http)
    assert ended
    assert text.startswith(two + 'data: {"error"')
    assert text.endswith("data: [DONE]\n\n")
    switch_on(http, route="/stream", kind="garbage", after_chunks=2, times=1)
    text, ended = read_stream(http)
    assert ended
    assert "<html>" in text
    assert read_stream(http) == ("".join(f"data: {n}\n\n" for n in (0, 1, 2, 3, 4, "[DONE]")), True)


@pytest.mark.parametrize(
    "fault",
    [
        {"route": "/buy"},
        {"kind": "status"},
        {"route": "/buy", "kind": "explode"},
        {"route": "/buy", "kind": "status", "colour": "red"},
        {"route": "/buy", "kind": "status", "status": "500"},
        [],
    ],
)
def test_nonsense_faults_are_refused(http: httpx.Client, fault: object) -> None:
    assert http.post("/sandbox/faults", json=fault, headers=ADMIN).status_code == 400
    assert http.get("/sandbox/faults", headers=ADMIN).json() == {"faults": []}


def test_requests_are_logged_without_secrets(http: httpx.Client) -> None:
    seen = http.get("/sandbox/requests", headers=ADMIN).json()["last"]
    http.post("/buy", headers={"x-alice": "1"})
    http.get("/buy/sk-secret-value?key=sk-secret-value&page=2")
    switch_on(http, route="/buy", kind="status", status=503)
    http.get("/buy")
    log = http.get("/sandbox/requests", params={"since": seen}, headers=ADMIN)
    assert "secret" not in log.text
    rows = log.json()["requests"]
    assert [(r["method"], r["status"], r["caller"], r["fault"]) for r in rows] == [
        ("POST", 200, "alice", None),
        ("GET", 200, None, None),
        ("GET", 503, None, "status"),
    ]
    assert rows[1]["query"] == "key=sk-***&page=2"
    assert log.json()["counts"]["POST /buy"] == 1


def test_reset_forgets_data_faults_and_log(http: httpx.Client, shop: Shop) -> None:
    http.get("/buy")
    switch_on(http, route="*", kind="status")
    assert http.post("/sandbox/reset", headers=ADMIN).status_code == 200
    assert shop.sold == 0
    assert http.get("/sandbox/requests", headers=ADMIN).json()["requests"] == []
    assert http.get("/buy").status_code == 200

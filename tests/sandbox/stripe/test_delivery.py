"""Signed delivery: once, twice, late, in another order, never, and across a restart."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import stripe

from sandbox.stripe.testing import WEBHOOK_SECRET, RunningStripe, stripe_sandbox


@dataclass
class Receiver:
    url: str = ""
    answers: list[int] = field(default_factory=list)  # statuses to give first; then 200
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events()]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    seen = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            seen.at.append(time.time())
            seen.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            seen.headers.append(dict(self.headers))
            self.send_response(seen.answers.pop(0) if seen.answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/webhooks"
    yield seen
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def running(receiver: Receiver) -> Iterator[RunningStripe]:
    with stripe_sandbox(webhook_url=receiver.url, retry_seconds=(0.05, 0.1)) as running:
        yield running


def until(condition, seconds: float = 5.0) -> None:
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, "waited in vain"
        time.sleep(0.005)


def make(running: RunningStripe, count: int = 1) -> list[str]:
    """So many customers; gives the ids of their events, in order."""
    before = running.engine.events()[-1].seq if running.engine.events() else 0
    for _ in range(count):
        running.engine.create_customer(method=None)
    return [event.id for event in running.engine.events(after=before)]


def test_event_arrives_signed_within_moments(running: RunningStripe, receiver: Receiver):
    made = time.time()
    ids = make(running)
    until(lambda: receiver.bodies)
    assert receiver.at[0] - made < 0.5
    header = receiver.headers[0]["Stripe-Signature"]
    event = stripe.Webhook.construct_event(receiver.bodies[0], header, WEBHOOK_SECRET)
    assert [event.id] == ids
    assert event.type == "customer.created"
    assert event.pending_webhooks == 1


def test_delivery_is_tried_again_until_it_is_taken(running: RunningStripe, receiver: Receiver):
    receiver.answers = [500, 302]
    (id,) = make(running)
    until(lambda: len(receiver.bodies) == 3)
    until(lambda: running.service.queue.counts()["delivered"] == 1)
    (entry,) = running.control("GET", f"deliveries?event={id}")["deliveries"]
    assert [attempt["status"] for attempt in entry["attempts"]] == [500, 302, 200]
    assert receiver.at[2] - receiver.at[1] >= 0.1
    assert running.client().v1.events.retrieve(id).pending_webhooks == 0


def test_duplicates_arrive_under_the_same_id(running: RunningStripe, receiver: Receiver):
    running.control("POST", "deliveries", {"duplicate": 1.0})
    (id,) = make(running)
    until(lambda: len(receiver.bodies) == 2)
    assert receiver.ids == [id, id]


def test_dropped_events_never_arrive_but_can_be_listed(running: RunningStripe, receiver: Receiver):
    running.control("POST", "deliveries", {"drop": 1.0})
    (id,) = make(running)
    running.control("POST", "deliveries", {"drop": 0.0})
    (arriving,) = make(running)
    until(lambda: receiver.bodies)
    running.flush()
    assert receiver.ids == [arriving]
    assert id in [event.id for event in running.client().v1.events.list().data]


def test_paused_deliveries_wait_for_a_flush(running: RunningStripe, receiver: Receiver):
    running.control("POST", "deliveries", {"paused": True})
    ids = make(running, 5)
    time.sleep(0.1)
    assert receiver.bodies == []
    assert running.flush() == {"attempted": 5, "delivered": 5, "waiting": 0}
    assert sorted(receiver.ids) == sorted(ids)


def test_reordered_events_arrive_all_but_in_another_order(
    running: RunningStripe, receiver: Receiver
):
    running.control("POST", "deliveries", {"reorder": True, "reorder_window": 0.3, "seed": 3})
    ids = make(running, 12)
    until(lambda: len(receiver.bodies) == 12)
    assert sorted(receiver.ids) == sorted(ids)
    assert receiver.ids != ids


def test_delayed_events_arrive_later(running: RunningStripe, receiver: Receiver):
    running.control("POST", "deliveries", {"delay": [0.2, 0.3]})
    made = time.time()
    make(running)
    until(lambda: receiver.bodies)
    assert receiver.at[0] - made >= 0.2


def test_delivered_event_can_be_sent_again(running: RunningStripe, receiver: Receiver):
    (id,) = make(running)
    until(lambda: receiver.bodies)
    running.control("POST", "deliveries/redeliver", {"event": id})
    until(lambda: len(receiver.bodies) == 2)
    assert receiver.ids == [id, id]


def test_each_endpoint_gets_its_types_in_its_version(running: RunningStripe, receiver: Receiver):
    client = running.client()
    endpoint = client.v1.webhook_endpoints.create(
        {
            "url": receiver.url + "/old",
            "enabled_events": ["customer.subscription.created"],
            "api_version": "2025-02-24.acacia",
        }
    )
    engine = running.engine
    price = engine.create_price(unit_amount=500)
    engine.subscribe(engine.create_customer()["id"], price["id"])
    running.flush()
    old = [event for event in receiver.events() if event["api_version"] == "2025-02-24.acacia"]
    assert [event["type"] for event in old] == ["customer.subscription.created"]
    assert "current_period_end" in old[0]["data"]["object"]
    index = receiver.events().index(old[0])
    signed = receiver.headers[index]["Stripe-Signature"]
    stripe.WebhookSignature.verify_header(receiver.bodies[index].decode(), signed, endpoint.secret)


def test_waiting_deliveries_survive_a_restart(receiver: Receiver, tmp_path: Path):
    receiver.answers = [503] * 3
    with stripe_sandbox(webhook_url=receiver.url, data=tmp_path, retry_seconds=(60,)) as running:
        ids = make(running, 3)
        until(lambda: len(receiver.bodies) == 3)
    with stripe_sandbox(webhook_url=receiver.url, data=tmp_path, retry_seconds=(60,)) as running:
        assert running.service.queue.counts()["waiting"] == 3
        assert running.flush()["delivered"] == 3
    assert sorted(receiver.ids[3:]) == sorted(ids)


def test_receiver_that_is_away_gets_everything_when_it_is_back(tmp_path: Path, receiver: Receiver):
    with stripe_sandbox(webhook_url="http://127.0.0.1:9/nobody", retry_seconds=(0.05,)) as running:
        ids = make(running, 3)
        until(lambda: all(d["attempts"] for d in running.service.queue.log()))
        endpoint = running.service.queue.log()[0]["endpoint"]
        running.client().v1.webhook_endpoints.update(endpoint, {"url": receiver.url})
        until(lambda: len(receiver.bodies) == 3)
        assert sorted(receiver.ids) == sorted(ids)
        entry = running.service.queue.log()[0]
        assert entry["attempts"][0]["error"].startswith("ClientConnectorError")

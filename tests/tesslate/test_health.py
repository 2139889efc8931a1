"""/health tells of every neighbour and survives all of them; probes mean what they say."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.cache import cache
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.utils import timezone

from plans.models import StripeEvent
from tesslate import health, heartbeat
from tesslate.health import CHECKS, Degraded, Finding, Reporter
from tesslate.lib import lifecycle
from tests.firebase import FirebaseProject


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(health, "reporter", Reporter(CHECKS))
    monkeypatch.setattr(
        health,
        "readiness",
        Reporter({"postgres": CHECKS["postgres"], "migrations": health._Migrations()}),
    )
    heartbeat._last_pulse = 0.0


class Neighbour:
    """Answers every path with the body and status it was told to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.body: dict[str, Any] = {"status": "healthy", "db": "connected"}
        self.delay = 0.0
        self.paths: list[str] = []


@pytest.fixture
def neighbour(settings) -> Iterator[Neighbour]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there.paths.append(self.path)
            time.sleep(there.delay)
            body = json.dumps(there.body).encode()
            self.send_response(there.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        there = Neighbour(f"http://127.0.0.1:{server.server_port}")
        settings.LITELLM_URL = settings.STRIPE_API_URL = there.url
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield there
        server.shutdown()
        thread.join()


@pytest.fixture
def all_well(neighbour: Neighbour, firebase: FirebaseProject, empty_cache) -> Neighbour:
    heartbeat.beat()
    heartbeat.consume(heartbeat.QUEUES)
    heartbeat.pulse()
    return neighbour


def finding(name: str) -> Finding:
    return Reporter({name: CHECKS[name]}).report()[name]


@pytest.mark.django_db(transaction=True)
class TestHealth:
    def test_all_is_well(self, client: Client, all_well: Neighbour):
        response = client.get("/health")

        assert response.status_code == 200
        body = response.json()
        assert {name: check["state"] for name, check in body["checks"].items()} == dict.fromkeys(
            CHECKS, "ok"
        )
        assert body["status"] == "ok"
        assert all(check["latency_ms"] >= 0 for check in body["checks"].values())

    def test_gateway_is_asked_for_readiness_and_never_for_health(self, all_well, client):
        client.get("/health")

        assert "/health/readiness" in all_well.paths
        assert "/health" not in all_well.paths

    def test_nothing_there_is_still_an_answer(self, client: Client, settings, empty_cache):
        settings.LITELLM_URL = settings.STRIPE_API_URL = "http://127.0.0.1:1"
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        settings.FIREBASE_CERTS_URL = "http://127.0.0.1:1/none"

        response = client.get("/health")

        assert response.status_code == 200
        checks = response.json()["checks"]
        assert response.json()["status"] == "degraded"
        assert checks["litellm"] == {
            "state": "down",
            "latency_ms": checks["litellm"]["latency_ms"],
            "error": "ConnectError",
        }
        for name in ("redis", "stripe", "firebase"):
            assert checks[name]["state"] == "down"

    def test_postgres_down_is_503(self, client: Client, all_well, monkeypatch):
        def refuse() -> dict[str, Any]:
            raise ConnectionError("postgresql://tesslate:secret@db/tesslate")

        monkeypatch.setattr(health, "reporter", Reporter({**CHECKS, "postgres": refuse}))

        response = client.get("/health")

        assert response.status_code == 503
        assert response.json()["status"] == "down"
        assert b"secret" not in response.content

    def test_gateway_without_its_database_is_degraded(self, all_well: Neighbour):
        all_well.body = {"status": "healthy", "db": "Not connected"}

        assert finding("litellm").state == "degraded"

    def test_gateway_that_fails_is_down(self, all_well: Neighbour):
        all_well.status = 503

        assert finding("litellm").state == "down"

    def test_stripe_that_refuses_us_is_reachable(self, all_well: Neighbour):
        all_well.status = 401

        assert finding("stripe").state == "ok"

    def test_stripe_is_asked_once_a_minute(self, client: Client, all_well, monkeypatch):
        monkeypatch.setattr(health, "REPORT_VALID_SECONDS", 0.0)
        client.get("/health")
        client.get("/health")

        assert all_well.paths.count("/healthcheck") == 1
        assert all_well.paths.count("/health/readiness") == 2

    def test_silent_worker_and_beat_are_told_apart(self, all_well):
        cache.set(heartbeat.SCHEDULE, time.time() - 120)

        assert finding("worker").state == "ok"
        assert finding("beat").state == "degraded"
        assert finding("beat").details == {"silent_seconds": 120}

    def test_worker_never_seen_is_degraded(self, all_well):
        cache.delete_many(heartbeat.worker_key(queue) for queue in heartbeat.QUEUES)

        found = finding("worker")

        assert found.state == "degraded"
        assert found.details == {"silent_seconds": dict.fromkeys(heartbeat.QUEUES)}

    def test_one_queue_without_a_worker_is_degraded(self, all_well):
        cache.set(heartbeat.worker_key("keys"), time.time() - 120)

        found = finding("worker")

        assert found.state == "degraded"
        assert found.details["silent_seconds"]["keys"] == 120
        assert found.details["silent_seconds"]["default"] < 60

    def test_old_unprocessed_event_is_degraded(self, all_well):
        make_event("evt_1", received_at=timezone.now() - timedelta(minutes=5))
        make_event("evt_2")

        found = finding("inbox")

        assert found.state == "degraded"
        assert (found.details["waiting"], found.details["stuck"]) == (2, 0)
        assert found.details["oldest_seconds"] == pytest.approx(300, abs=5)

    def test_fresh_unprocessed_event_is_business_as_usual(self, all_well):
        make_event("evt_1")

        assert finding("inbox").state == "ok"

    def test_dead_letter_is_degraded(self, all_well):
        make_event("evt_1", state=StripeEvent.State.DEAD)

        assert finding("inbox").details["stuck"] == 1
        assert finding("inbox").state == "degraded"


def make_event(event_id: str, **fields: Any) -> StripeEvent:
    return StripeEvent.objects.create(
        event_id=event_id,
        type="invoice.paid",
        livemode=False,
        created_at=timezone.now(),
        payload={},
        **fields,
    )


class TestReporter:
    def test_checks_run_side_by_side(self):
        barrier = threading.Barrier(3)

        def meet() -> dict[str, Any]:
            barrier.wait(1)
            return {}

        found = Reporter({"a": meet, "b": meet, "c": meet}).report()

        assert {finding.state for finding in found.values()} == {"ok"}

    def test_check_that_hangs_is_cut_short_and_not_started_twice(self, monkeypatch):
        monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
        monkeypatch.setattr(health, "REPORT_VALID_SECONDS", 0.0)
        release, starts = threading.Event(), []

        def hang() -> dict[str, Any]:
            starts.append(1)
            release.wait(5)
            return {}

        reporter = Reporter({"slow": hang, "quick": dict})
        first, second = reporter.report(), reporter.report()
        release.set()

        assert first["slow"].state == second["slow"].state == "down"
        assert first["quick"].state == "ok"
        assert len(starts) == 1

    def test_check_that_was_slow_is_believed_once_it_answers(self, monkeypatch):
        monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
        monkeypatch.setattr(health, "REPORT_VALID_SECONDS", 0.0)
        release = threading.Event()

        def slow() -> dict[str, Any]:
            release.wait(5)
            return {}

        reporter = Reporter({"slow": slow})
        assert reporter.report()["slow"].state == "down"
        release.set()
        assert reporter.report()["slow"].state == "ok"

    def test_whatever_a_check_raises_is_a_finding(self):
        def break_down() -> dict[str, Any]:
            raise RuntimeError("no secrets here")

        def limp() -> dict[str, Any]:
            raise Degraded(missing=3)

        found = Reporter({"broken": break_down, "limping": limp}).report()

        assert found["broken"].details == {"error": "RuntimeError"}
        assert (found["limping"].state, found["limping"].details) == ("degraded", {"missing": 3})

    def test_reports_in_quick_succession_are_one(self):
        calls = []

        def count() -> dict[str, Any]:
            calls.append(1)
            return {}

        reporter = Reporter({"a": count})
        reporter.report()
        reporter.report()

        assert len(calls) == 1


def test_live_asks_nobody(client: Client):
    assert client.get("/health/live").json() == {"status": "ok"}


@pytest.mark.django_db(transaction=True)
def test_ready_when_database_and_migrations_are(client: Client):
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_not_ready_while_draining(client: Client):
    lifecycle.begin_drain()
    try:
        response = client.get("/health/ready")
    finally:
        lifecycle.end_drain()

    assert response.status_code == 503
    assert response.json() == {"status": "not ready", "reason": "draining"}
    assert client.get("/health/live").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_not_ready_while_migrations_are_missing(client: Client, monkeypatch):
    monkeypatch.setattr(MigrationExecutor, "migration_plan", lambda self, targets: [1])

    response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json()["reason"] == "migrations"


def test_probes_only_read(client: Client):
    assert client.post("/health/live").status_code == 405


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/metrics"])
@pytest.mark.parametrize("host", ["10.0.0.7:8000", "127.0.0.1:8000", "web:8000"])
def test_probes_and_scrapers_may_call_a_process_by_its_address(
    client: Client, settings, monkeypatch, path, host
):
    settings.ALLOWED_HOSTS = ["app.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    monkeypatch.setattr(health, "reporter", Reporter({"postgres": dict}))
    monkeypatch.setattr(health, "readiness", Reporter({"postgres": dict}))

    assert client.get(path, headers={"Host": host}).status_code == 200


def test_pages_are_for_known_hosts_only(client: Client, settings):
    settings.ALLOWED_HOSTS = ["app.example.com"]

    assert client.get("/sign-in", headers={"Host": "evil.example.com"}).status_code == 400

"""GET /health, /health/live, /health/ready.

/health looks at every neighbour at once, each within a time limit, and never fails itself: whatever
goes wrong is part of the report. It answers 503 only when PostgreSQL is down, since everything else
can be away for a while without anybody losing anything.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass, field
from typing import Any

import httpx
import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from accounts.firebase import verifier
from tesslate.backlogs import Backlog, inbox_backlog, key_backlog
from tesslate.errorviews import only_read
from tesslate.heartbeat import QUEUES, SCHEDULE, STALE_SECONDS, silent_seconds, worker_key
from tesslate.lib.lifecycle import is_draining

logger = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
# Many probes at once cost the neighbours no more than one.
REPORT_VALID_SECONDS = 2.0
# Stripe is far away and others' property: asked less often.
VALID_SECONDS = {"stripe": 60.0}
# Work is usually done within a second; what waits this long is stuck behind something.
LATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    # ok, degraded or down
    state: str
    latency_ms: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        latency = {} if self.latency_ms is None else {"latency_ms": self.latency_ms}
        return {"state": self.state, **latency, **self.details}


class Degraded(Exception):
    """It answers, but not as it should; ``details`` go into the report."""

    def __init__(self, **details: Any) -> None:
        self.details = details
        super().__init__(str(details))


Check = Callable[[], dict[str, Any]]


def _postgres() -> dict[str, Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()
    return {}


def _redis() -> dict[str, Any]:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=CHECK_SECONDS, socket_timeout=CHECK_SECONDS
    ) as client:
        client.ping()
        waiting = {queue: client.llen(queue) for queue in QUEUES}
    return {"queues": waiting}


def _litellm() -> dict[str, Any]:
    # Never its /health: that one calls every provider.
    response = httpx.get(f"{settings.LITELLM_URL}/health/readiness", timeout=CHECK_SECONDS)
    response.raise_for_status()
    body = response.json()
    if body.get("db") != "connected":
        raise Degraded(db=str(body.get("db"))[:50])
    return {}


def _stripe() -> dict[str, Any]:
    # Any answer that is not its own failure will do: without our key, nothing is looked up.
    response = httpx.get(f"{settings.STRIPE_API_URL}/healthcheck", timeout=CHECK_SECONDS)
    if response.status_code >= 500:
        raise Degraded(status=response.status_code)
    return {}


def _firebase() -> dict[str, Any]:
    certificates = verifier().certificates
    certificates.refresh()
    age = certificates.age_seconds
    return {"certificates_age_seconds": None if age is None else round(age)}


def _workers() -> dict[str, Any]:
    """Does every queue have a worker that takes tasks from it?"""
    silent = {queue: _rounded(silent_seconds(worker_key(queue))) for queue in QUEUES}
    if any(seconds is None or seconds > STALE_SECONDS for seconds in silent.values()):
        raise Degraded(silent_seconds=silent)
    return {"silent_seconds": silent}


def _beat() -> dict[str, Any]:
    silent = _rounded(silent_seconds(SCHEDULE))
    if silent is None or silent > STALE_SECONDS:
        raise Degraded(silent_seconds=silent)
    return {"silent_seconds": silent}


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def _backlog(count: Callable[[], Backlog]) -> Check:
    def check() -> dict[str, Any]:
        try:
            backlog = count()
        finally:
            connection.close()
        details = {
            "waiting": backlog.waiting,
            "oldest_seconds": round(backlog.oldest_seconds, 1),
            "stuck": backlog.stuck,
        }
        if backlog.oldest_seconds > LATE_SECONDS or backlog.stuck:
            raise Degraded(**details)
        return details

    return check


CHECKS: dict[str, Check] = {
    "postgres": _postgres,
    "redis": _redis,
    "litellm": _litellm,
    "stripe": _stripe,
    "firebase": _firebase,
    "worker": _workers,
    "beat": _beat,
    "inbox": _backlog(inbox_backlog),
    "key_sync": _backlog(key_backlog),
}


class Reporter:
    """Runs checks side by side, each in a thread; a check that hangs is not started twice."""

    def __init__(self, checks: dict[str, Check]) -> None:
        self._checks = checks
        self._pool = ThreadPoolExecutor(max(1, len(checks)), thread_name_prefix="health")
        self._running: dict[str, Future[Finding]] = {}
        self._found: dict[str, tuple[float, Finding]] = {}
        self._lock = threading.Lock()

    def report(self) -> dict[str, Finding]:
        """What each check finds, or found a moment ago."""
        with self._lock:
            now = time.monotonic()
            for name, check in self._checks.items():
                if not self._is_fresh(name, now) and name not in self._running:
                    self._running[name] = self._pool.submit(_run, check)
            deadline = now + CHECK_SECONDS
            for name in list(self._running):
                self._collect(name, deadline)
            return {name: self._found[name][1] for name in self._checks}

    def _is_fresh(self, name: str, now: float) -> bool:
        if (found := self._found.get(name)) is None:
            return False
        at, finding = found
        valid = VALID_SECONDS.get(name) if finding.state == "ok" else None
        return now - at < (valid or REPORT_VALID_SECONDS)

    def _collect(self, name: str, deadline: float) -> None:
        future = self._running[name]
        try:
            finding = future.result(timeout=max(0.0, deadline - time.monotonic()))
        except TooSlow:
            finding = Finding("down", details={"error": f"no answer within {CHECK_SECONDS:g} s"})
        if future.done():
            del self._running[name]
        self._found[name] = (time.monotonic(), finding)


def _run(check: Check) -> Finding:
    begun = time.perf_counter()
    state, details = "ok", {}
    try:
        details = check()
    except Degraded as problem:
        state, details = "degraded", problem.details
    except Exception as error:  # noqa: BLE001 - a report on failures must survive all of them
        # The name alone: messages hold addresses, and this page is public.
        state, details = "down", {"error": type(error).__name__}
        logger.warning("Health check failed: %s", error)
    return Finding(state, round((time.perf_counter() - begun) * 1000, 1), details)


reporter = Reporter(CHECKS)


@only_read
def health(request: HttpRequest) -> JsonResponse:
    findings = reporter.report()
    states = {finding.state for finding in findings.values()}
    is_down = findings["postgres"].state == "down"
    status = "down" if is_down else "ok" if states == {"ok"} else "degraded"
    body = {
        "status": status,
        "at": timezone.now().isoformat(timespec="milliseconds"),
        "checks": {name: finding.as_json() for name, finding in findings.items()},
    }
    return JsonResponse(body, status=503 if is_down else 200)


@only_read
def live(request: HttpRequest) -> JsonResponse:
    """The process answers. Restarting it would not mend anything outside of it."""
    return JsonResponse({"status": "ok"})


@only_read
def ready(request: HttpRequest) -> JsonResponse:
    """Requests may be sent here: the database is there and as this code expects it."""
    if is_draining():
        return _not_ready("draining")
    findings = readiness.report()
    for name, finding in findings.items():
        if finding.state != "ok":
            return _not_ready(name)
    return JsonResponse({"status": "ok"})


def _not_ready(reason: str) -> JsonResponse:
    return JsonResponse({"status": "not ready", "reason": reason}, status=503)


class _Migrations:
    """Are all migrations applied? Once they are, they stay so: asked until the first yes."""

    def __init__(self) -> None:
        self._applied = False

    def __call__(self) -> dict[str, Any]:
        if self._applied:
            return {}
        try:
            executor = MigrationExecutor(connection)
            missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        finally:
            connection.close()
        if missing:
            raise Degraded(missing=len(missing))
        self._applied = True
        return {}


readiness = Reporter({"postgres": _postgres, "migrations": _Migrations()})

"""Signs of life of worker and beat."""

import time

import pytest
from celery import Celery
from celery.signals import beat_init
from django.core.cache import cache
from redis.exceptions import ConnectionError as CacheDown

from tesslate import heartbeat
from tesslate.celery import app, carry_ids, forget_the_task, name_the_task_in_logs
from tesslate.lib.logcontext import current_fields, log_fields
from tesslate.schedule import BEAT_SCHEDULE, TASK_ROUTES
from tesslate.scheduler import Scheduler

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture(autouse=True)
def fresh_pulse(monkeypatch):
    monkeypatch.setattr(heartbeat, "_last_pulse", 0.0)
    monkeypatch.setattr(heartbeat, "_queues", ("keys", "bulk"))
    monkeypatch.setattr(heartbeat, "_moved_at", None)


def test_nobody_seen_is_none():
    assert heartbeat.silent_seconds(heartbeat.worker_key("keys")) is None
    assert heartbeat.silent_seconds(heartbeat.SCHEDULE) is None


def test_scheduled_task_shows_that_beat_lives():
    app.loader.import_default_modules()
    app.tasks["tesslate.tasks.beat"]()

    silent = heartbeat.silent_seconds(heartbeat.SCHEDULE)
    assert silent is not None
    assert silent < 5


def test_worker_shows_itself_once_in_a_while():
    heartbeat.pulse()
    cache.set(heartbeat.worker_key("keys"), time.time() - 100)
    heartbeat.pulse()

    seen = heartbeat.silent_seconds(heartbeat.worker_key("keys"))
    assert seen == pytest.approx(100, abs=2)


def test_worker_speaks_for_its_own_queues_only():
    heartbeat.pulse()

    assert heartbeat.silent_seconds(heartbeat.worker_key("bulk")) is not None
    assert heartbeat.silent_seconds(heartbeat.worker_key("default")) is None


def test_every_queue_that_tasks_are_sent_to_is_watched():
    sent_to = {entry.get("options", {}).get("queue", "default") for entry in BEAT_SCHEDULE.values()}
    sent_to |= {route["queue"] for route in TASK_ROUTES.values()}

    assert sent_to == set(heartbeat.QUEUES)


def test_beat_moves_although_nothing_is_due_for_long(tmp_path):
    idle = Celery("idle", set_as_current=False)
    scheduler = Scheduler(idle, schedule_filename=str(tmp_path / "schedule"), lazy=False)

    pause = scheduler.tick()
    scheduler.close()

    assert pause <= 10
    assert heartbeat.still_seconds() == pytest.approx(0, abs=5)


def test_worker_survives_a_cache_that_is_down(monkeypatch):
    def fail(*args: object) -> None:
        raise CacheDown

    monkeypatch.setattr(cache, "set", fail)

    heartbeat.pulse()


def test_beat_shows_itself_as_it_starts(monkeypatch):
    """Its first planned sign of life is a quarter of a minute away."""
    app.loader.import_default_modules()
    task = app.tasks["tesslate.tasks.beat"]
    with monkeypatch.context() as patch:
        patch.setattr(task, "apply_async", lambda **options: task())
        beat_init.send(sender=None)

    assert heartbeat.silent_seconds(heartbeat.SCHEDULE) is not None


def test_every_scheduled_task_exists():
    app.loader.import_default_modules()

    assert {entry["task"] for entry in BEAT_SCHEDULE.values()} <= set(app.tasks)


def test_log_lines_of_a_task_name_it():
    app.loader.import_default_modules()
    task = app.tasks["tesslate.tasks.beat"]

    name_the_task_in_logs("id-1", task)
    assert current_fields()["task_id"] == "id-1"
    assert current_fields()["task"] == task.name
    forget_the_task("id-1")

    assert "task_id" not in current_fields()


def test_task_sent_by_a_request_is_logged_under_that_request():
    app.loader.import_default_modules()
    task = app.tasks["tesslate.tasks.beat"]
    headers: dict[str, object] = {}
    with log_fields(request_id="req-1", event_id="evt_1", user="somebody"):
        carry_ids(headers)

    task.push_request(**headers)
    name_the_task_in_logs("id-1", task)
    fields = dict(current_fields())
    forget_the_task("id-1")
    task.pop_request()

    assert (fields["request_id"], fields["event_id"], fields["task_id"]) == (
        "req-1",
        "evt_1",
        "id-1",
    )
    assert "user" not in fields

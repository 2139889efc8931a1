"""Signs of life of worker and beat."""

import time

import pytest
from django.core.cache import cache
from redis.exceptions import ConnectionError as CacheDown

from tesslate import heartbeat
from tesslate.celery import app, forget_the_task, name_the_task_in_logs
from tesslate.lib.logcontext import current_fields
from tesslate.schedule import BEAT_SCHEDULE

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture(autouse=True)
def fresh_pulse(monkeypatch):
    monkeypatch.setattr(heartbeat, "_last_pulse", 0.0)


def test_nobody_seen_is_none():
    assert heartbeat.silent_seconds(heartbeat.WORKER) is None
    assert heartbeat.silent_seconds(heartbeat.SCHEDULE) is None


def test_scheduled_task_shows_that_beat_lives():
    app.loader.import_default_modules()
    app.tasks["tesslate.tasks.beat"]()

    silent = heartbeat.silent_seconds(heartbeat.SCHEDULE)
    assert silent is not None
    assert silent < 5


def test_worker_shows_itself_once_in_a_while():
    heartbeat.pulse()
    cache.set(heartbeat.WORKER, time.time() - 100)
    heartbeat.pulse()

    assert heartbeat.silent_seconds(heartbeat.WORKER) == pytest.approx(100, abs=2)


def test_worker_survives_a_cache_that_is_down(monkeypatch):
    def fail(*args: object) -> None:
        raise CacheDown

    monkeypatch.setattr(cache, "set", fail)

    heartbeat.pulse()


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

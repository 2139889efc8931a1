"""Signs of life of the background processes, left in the cache.

Each worker leaves one for every queue it takes tasks from; beat shows itself by a task that some
worker runs. Fresh workers with no fresh task mean that beat is down, or that the queue is stuck.
"""

import time
from collections.abc import Iterable
from typing import Any

from celery.signals import beat_init, celeryd_after_setup, heartbeat_sent
from django.core.cache import cache
from redis.exceptions import RedisError

# Each needs a consumer: a queue that nobody takes from keeps its work for ever.
QUEUES = ("default", "keys", "bulk")
SCHEDULE = "heartbeat:schedule"
SCHEDULE_SECONDS = 15
STALE_SECONDS = 60
# Long enough to say since when a process is silent.
REMEMBERED_SECONDS = 24 * 3600
# Celery's own pulse is every two seconds.
_PULSE_SECONDS = 10.0
_last_pulse = 0.0
_queues: tuple[str, ...] = ()
_moved_at: float | None = None


def worker_key(queue: str) -> str:
    return f"heartbeat:worker:{queue}"


def beat() -> None:
    """The step behind the scheduled task."""
    cache.set(SCHEDULE, time.time(), REMEMBERED_SECONDS)


@beat_init.connect
def show_beat(**kwargs: Any) -> None:
    """Beat shows itself as it starts, and not only when its tasks fall due."""
    from plans.wakeups import publish
    from tesslate.tasks import beat as task

    publish(task)


def consume(queues: Iterable[str]) -> None:
    """From now on this process's pulse stands for a consumer of ``queues``."""
    global _queues
    _queues = tuple(queues)


@celeryd_after_setup.connect
def _learn_queues(instance: Any, **kwargs: Any) -> None:
    consume(instance.app.amqp.queues.consume_from)


@heartbeat_sent.connect
def pulse(**kwargs: Any) -> None:
    """Called by Celery in each worker's main process."""
    global _last_pulse
    note_movement()
    now = time.monotonic()
    if now - _last_pulse < _PULSE_SECONDS:
        return
    _last_pulse = now
    try:
        cache.set_many({worker_key(queue): time.time() for queue in _queues}, REMEMBERED_SECONDS)
    except RedisError:
        return  # the worker has louder ways to complain of a lost broker


def note_movement() -> None:
    """The main loop of this process, worker or beat, came round once more."""
    global _moved_at
    _moved_at = time.monotonic()


def still_seconds() -> float | None:
    """Since the main loop last came round; None before its first time, and where there is none."""
    return None if _moved_at is None else time.monotonic() - _moved_at


def silent_seconds(key: str) -> float | None:
    """Since the last sign of life; None where there never was one. Raises RedisError."""
    seen: float | None = cache.get(key)
    return None if seen is None else max(0.0, time.time() - seen)

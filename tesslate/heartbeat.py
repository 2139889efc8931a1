"""Signs of life of the background processes, left in the cache.

Each worker leaves one of its own accord; beat shows itself by a task that some worker runs. A fresh
worker with no fresh task means that beat is down, or that the queue is stuck.
"""

import time
from typing import Any

from celery.signals import heartbeat_sent
from django.core.cache import cache
from redis.exceptions import RedisError

WORKER = "heartbeat:worker"
SCHEDULE = "heartbeat:schedule"
SCHEDULE_SECONDS = 15
STALE_SECONDS = 60
# Long enough to say since when a process is silent.
REMEMBERED_SECONDS = 24 * 3600
# Celery's own pulse is every two seconds.
_PULSE_SECONDS = 10.0
_last_pulse = 0.0


def beat() -> None:
    """The step behind the scheduled task."""
    cache.set(SCHEDULE, time.time(), REMEMBERED_SECONDS)


@heartbeat_sent.connect
def pulse(**kwargs: Any) -> None:
    """Called by Celery in each worker's main process."""
    global _last_pulse
    now = time.monotonic()
    if now - _last_pulse < _PULSE_SECONDS:
        return
    _last_pulse = now
    try:
        cache.set(WORKER, time.time(), REMEMBERED_SECONDS)
    except RedisError:
        return  # the worker has louder ways to complain of a lost broker


def silent_seconds(name: str) -> float | None:
    """Since the last sign of life; None where there never was one. Raises RedisError."""
    seen: float | None = cache.get(name)
    return None if seen is None else max(0.0, time.time() - seen)

"""Tell the workers that there is work. Only ever a hint: the sweep finds the same rows."""

import logging
import time
from functools import partial
from typing import Any

from celery import Task
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# After a failed attempt nobody waits for the broker again for this long.
QUIET_SECONDS = 5.0
# A wake-up that waited longer than this tells nothing that the sweep does not know.
EXPIRES_SECONDS = 60

_quiet_until = 0.0


def wake(task: "Task[Any, Any]") -> None:
    """Publish ``task`` after the present transaction commits; never raises, never waits long."""
    transaction.on_commit(partial(publish, task))


def publish(task: "Task[Any, Any]") -> bool:
    """Publish at once; False if the broker is down, or was a moment ago."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return False
    try:
        task.apply_async(expires=EXPIRES_SECONDS, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        _quiet_until = time.monotonic() + QUIET_SECONDS
        logger.warning("the broker is down, sweeps take over: %s", type(error).__name__)
        return False
    return True

"""The shared cache, for what goes on without it: while it is down, nothing is remembered."""

import logging
from collections.abc import Callable
from typing import TypeVar

from django.core.cache import cache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
T = TypeVar("T")


def remembered(key: str, make: Callable[[], T], seconds: int) -> T:
    """What ``make`` returned in the last ``seconds``, in whichever process; made anew otherwise.

    It must not return None, which the cache cannot tell from nothing.
    """
    try:
        found: T | None = cache.get(key)
    except RedisError as error:
        logger.warning("%s is not remembered: %s", key, type(error).__name__)
        return make()
    if found is not None:
        return found
    made = make()
    try:
        cache.set(key, made, seconds)
    except RedisError as error:
        logger.warning("%s is not remembered: %s", key, type(error).__name__)
    return made


def is_first(key: str, seconds: int) -> bool:
    """Whether nobody asked this in the last ``seconds``. Nobody can tell without the cache, and
    work has to go on: then yes."""
    try:
        return bool(cache.add(key, 1, seconds))
    except RedisError as error:
        logger.warning("Cannot tell whether %s was before: %s", key, type(error).__name__)
        return True

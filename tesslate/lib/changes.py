"""Tell every web process that something changed, so that it forgets what it remembers of it.

Best effort by design: whoever remembers anything does so for CHAT_CACHE_SECONDS at most, so a lost
message costs seconds, never correctness.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import lru_cache

import redis
import redis.asyncio
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

CHANNEL = "tesslate:changed"
# Kinds of things that are not one user's.
PLANS = "plans"
PROMPTS = "prompts"
# More users than this in one message: cheaper to forget all of them.
MOST_USERS = 1000
RECONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """What to forget. ``everything`` also stands for "messages may have been missed"."""

    user_ids: frozenset[int] = frozenset()
    kinds: frozenset[str] = frozenset()
    everything: bool = False


def publish(user_ids: Iterable[int] = (), *, kinds: Iterable[str] = ()) -> None:
    """Tell all web processes, once the transaction (if any) has committed. Never raises."""
    ids, names = sorted(set(user_ids)), sorted(set(kinds))
    if ids or names:
        message = json.dumps(
            {"everything": True}
            if len(ids) > MOST_USERS
            else {"user_ids": ids, "kinds": names, "everything": False}
        )
        transaction.on_commit(lambda: _send(message), robust=True)


async def subscribe() -> AsyncIterator[Change]:
    """Yield changes for ever; after each (re)connection first one that means everything."""
    while True:
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=2, socket_keepalive=True
        )
        try:
            async with client, client.pubsub() as subscription:
                await subscription.subscribe(CHANNEL)
                yield Change(everything=True)
                async for message in subscription.listen():
                    if message["type"] == "message":
                        yield parse(message["data"])
        except redis.RedisError as error:
            logger.warning("Lost the change channel: %s", type(error).__name__)
        await asyncio.sleep(RECONNECT_SECONDS)


def parse(data: bytes) -> Change:
    """Read a message; what cannot be read means everything."""
    try:
        content = json.loads(data)
        return Change(
            frozenset(content.get("user_ids", ())),
            frozenset(content.get("kinds", ())),
            bool(content.get("everything")),
        )
    except (ValueError, TypeError, AttributeError):
        return Change(everything=True)


@lru_cache(maxsize=2)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=0.5)


def _send(message: str) -> None:
    try:
        _client(settings.REDIS_URL).publish(CHANNEL, message)
    except redis.RedisError as error:
        logger.warning("Could not publish a change: %s", type(error).__name__)

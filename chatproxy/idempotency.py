"""One answer per idempotency key, however often a browser asks.

A request may carry ``Idempotency-Key``. Then its answer is generated to the end even if the client
goes away, kept (encrypted) for KEPT_SECONDS, and given again to whoever repeats the request: no
second generation, no second charge. While the first one runs, a repeat is told to come back.

Only such requests cost a round trip to Valkey; all others know nothing of this.
"""

import hashlib
import logging
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

from chatproxy.errors import IdempotencyConflict, IdempotencyReused, IdempotencyUnavailable
from tesslate.lib.crypto import CannotDecrypt, decrypt, encrypt
from tesslate.lib.errors import InvalidRequest

logger = logging.getLogger(__name__)

KEPT_SECONDS = 600
LONGEST_KEY = 255
# An answer longer than this is not kept; its key only guards against doing it twice at once.
LONGEST_ANSWER = 4 * 1024 * 1024
PREFIX = "tesslate:idempotency"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to answer a key for the first time."""

    name: str
    digest: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was given before."""

    body: bytes
    is_stream: bool
    request_id: str


class Idempotency:
    def __init__(self) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=2
        )

    async def close(self) -> None:
        await self._redis.aclose()

    async def claim(
        self, key: str, *, user_id: int, body: bytes, request_id: str
    ) -> Claim | Kept | None:
        """Take the key, or the answer that it has. None where nobody can tell, if settings allow.

        Raises IdempotencyConflict (409) while the first request runs, IdempotencyReused (422) for
        another body, IdempotencyUnavailable (503).
        """
        name = f"{PREFIX}:{user_id}:{hashlib.sha256(key.encode()).hexdigest()}"
        claim = Claim(name, hashlib.sha256(body).hexdigest(), request_id)
        entry = orjson.dumps({"digest": claim.digest, "id": request_id, "state": "running"})
        seconds = settings.CHAT_TIMEOUT_SECONDS + KEPT_SECONDS
        try:
            # Three steps at most: the entry may expire between the first and the second.
            for _ in range(3):
                if await self._redis.set(name, entry, nx=True, ex=seconds):
                    return claim
                found = await self._redis.get(name)
                if found is not None:
                    return self._answer(orjson.loads(found), claim)
        except RedisError as error:
            logger.warning("Idempotency keys cannot be looked up: %s", type(error).__name__)
        if settings.CHAT_IDEMPOTENCY_FAIL_OPEN:
            return None
        raise IdempotencyUnavailable(retry_after=1)

    def _answer(self, found: dict[str, Any], claim: Claim) -> Kept:
        if found["digest"] != claim.digest:
            raise IdempotencyReused
        if found["state"] == "running":
            raise IdempotencyConflict(retry_after=1, details={"request_id": found["id"]})
        try:
            body = b64decode(decrypt(found["body"]))
        except CannotDecrypt:
            raise IdempotencyUnavailable from None
        return Kept(body, bool(found["stream"]), str(found["id"]))

    async def keep(self, claim: Claim, body: bytes, *, is_stream: bool) -> None:
        """The answer is complete: give it to those who repeat the request."""
        entry = {
            "digest": claim.digest,
            "id": claim.request_id,
            "state": "kept",
            "stream": is_stream,
            "body": encrypt(b64encode(body).decode()),
        }
        await self._finish(claim, orjson.dumps(entry))

    async def release(self, claim: Claim) -> None:
        """There is no answer: a repeat may try again."""
        await self._finish(claim, None)

    async def _finish(self, claim: Claim, entry: bytes | None) -> None:
        try:
            if entry is None:
                await self._redis.delete(claim.name)
            else:
                await self._redis.set(claim.name, entry, ex=KEPT_SECONDS)
        except RedisError as error:
            logger.warning("An idempotency key could not be settled: %s", type(error).__name__)


def read_key(header: str | None) -> str | None:
    """The key a request carries. Raises InvalidRequest for one that cannot be stored."""
    if header is None:
        return None
    key = header.strip()
    if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise InvalidRequest("Up to 255 printable characters.", param="Idempotency-Key")
    return key

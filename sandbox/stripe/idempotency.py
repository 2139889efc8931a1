"""Idempotency keys: the same POST with the same key has one effect and always the same answer.

https://docs.stripe.com/api/idempotent_requests: an answer is kept for a day; a request that was
refused before anything was done (a bad parameter, an unknown object) is not kept.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from sandbox.stripe.errors import IdempotencyMismatch, InvalidRequest
from sandbox.stripe.store import Record

if TYPE_CHECKING:
    from sandbox.stripe.world import World

KEPT_SECONDS = 86_400
MAX_LENGTH = 255


@dataclass(slots=True)
class Answer:
    fingerprint: str
    status: int
    body: bytes
    request: str
    created: int


def fingerprint(path: str, body: bytes) -> str:
    return hashlib.sha256(path.encode() + b"\n" + body).hexdigest()


class AnswerBook:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._answers: dict[str, Answer] = {}
        for record in world.store.load("answer"):
            saved = orjson.loads(record.body or b"{}")
            self._answers[record.key] = Answer(**{**saved, "body": saved["body"].encode()})

    def find(self, key: str, path: str, body: bytes) -> Answer | None:
        """The answer given before. Raises if the key was used for another request."""
        if len(key) > MAX_LENGTH:
            raise InvalidRequest("Idempotency keys can be up to 255 characters.")
        answer = self._answers.get(key)
        if answer is None or answer.created < self._world.clock.now() - KEPT_SECONDS:
            return None
        if answer.fingerprint != fingerprint(path, body):
            raise IdempotencyMismatch(
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. Try using a key other than '{key}' if you meant to execute a "
                "different request."
            )
        return answer

    def keep(self, key: str, path: str, body: bytes, status: int, answer: bytes, id: str) -> None:
        """Remember, and store with the transaction that did what was asked."""
        made = Answer(fingerprint(path, body), status, answer, id, self._world.clock.now())
        self._answers[key] = made
        saved = {
            "fingerprint": made.fingerprint,
            "status": status,
            "body": answer.decode(),
            "request": id,
            "created": made.created,
        }
        self._world.keep(Record("answer", key, 0, orjson.dumps(saved)))

    def clear(self) -> None:
        self._answers.clear()

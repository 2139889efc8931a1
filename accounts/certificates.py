"""Firebase's signing certificates, kept in memory."""

import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from google.auth.exceptions import TransportError
from google.auth.transport import Request

logger = logging.getLogger(__name__)

FETCH_TIMEOUT_SECONDS = 3.0
# Used when the server names no max-age, and the most that we believe.
DEFAULT_MAX_AGE_SECONDS = 3600
LONGEST_MAX_AGE_SECONDS = 24 * 3600
# After a failure: with certificates in hand there is time, without them nobody can sign in.
RETRY_SECONDS = 10.0
RETRY_EMPTY_HANDED_SECONDS = 1.0
# A token may name any key id: looking for one must not become a flood at Google's server.
LOOK_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Held:
    body: bytes
    key_ids: frozenset[str]
    fetched_at: float
    fresh_until: float


@dataclass(frozen=True, slots=True)
class _Response:
    """google.auth.transport.Response, which is an interface without state."""

    status: int
    data: bytes
    headers: Mapping[str, str]


class Certificates(Request):
    """A google-auth transport that answers every request with the certificates at ``url``.

    They are fetched when first needed and again after their max-age. While the server is down the
    old ones stay in use, however old: Firebase's keys outlive their max-age, and signing everyone
    out would help nobody. Only with nothing in hand does a call raise TransportError.
    Safe to share between threads; one of them fetches.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        self._transport = transport
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._not_before = 0.0
        self._last_failed = False

    def __call__(self, url: str, *args: Any, **kwargs: Any) -> _Response:
        return _Response(200, self._current().body, {})

    @property
    def age_seconds(self) -> float | None:
        """Since they were last fetched; None with nothing in hand."""
        return None if self._held is None else time.monotonic() - self._held.fetched_at

    @property
    def key_ids(self) -> frozenset[str]:
        return frozenset() if self._held is None else self._held.key_ids

    def refresh(self) -> None:
        """Have certificates, fetched anew where they are stale. Raises TransportError."""
        self._current()

    def look_again_for(self, key_id: str) -> bool:
        """Say whether ``key_id`` is known, after fetching anew if that was not done just now.

        Raises TransportError when that cannot be known because the server does not answer.
        """
        with self._lock:
            held = self._held
            if held is not None and key_id in held.key_ids:
                return True
            now = time.monotonic()
            asked_just_now = held is not None and now - held.fetched_at < LOOK_AGAIN_SECONDS
            if not asked_just_now and now >= self._not_before:
                held = self._fetch()
            elif self._last_failed:
                raise TransportError("The certificate server did not answer a moment ago.")
        return held is not None and key_id in held.key_ids

    def _current(self) -> _Held:
        held = self._held
        now = time.monotonic()
        if held is None:
            return self._first()
        if now < held.fresh_until or now < self._not_before:
            return held
        if not self._lock.acquire(blocking=False):
            return held  # another thread is at it
        try:
            return self._fetch()
        except TransportError as error:
            logger.warning("Using Firebase's certificates beyond their max-age: %s", error)
            return held
        finally:
            self._lock.release()

    def _first(self) -> _Held:
        with self._lock:
            if self._held is not None:
                return self._held
            if time.monotonic() < self._not_before:
                raise TransportError("The certificate server did not answer a moment ago.")
            return self._fetch()

    def _fetch(self) -> _Held:
        """Replace what is held. Call with the lock. Raises TransportError."""
        try:
            with httpx.Client(transport=self._transport, timeout=FETCH_TIMEOUT_SECONDS) as client:
                response = client.get(self._url)
            response.raise_for_status()
            key_ids = _key_ids(response.content)
        except (httpx.HTTPError, ValueError) as error:
            pause = RETRY_SECONDS if self._held else RETRY_EMPTY_HANDED_SECONDS
            self._not_before = time.monotonic() + pause
            self._last_failed = True
            raise TransportError(f"No certificates from {self._url}: {error}") from error
        now = time.monotonic()
        self._held = _Held(response.content, key_ids, now, now + _max_age(response.headers))
        self._not_before = 0.0
        self._last_failed = False
        return self._held


def _key_ids(body: bytes) -> frozenset[str]:
    """The ids in ``{"key id": "PEM certificate"}``. Raises ValueError for anything else."""
    certificates = json.loads(body)
    if not isinstance(certificates, dict) or not certificates:
        raise ValueError("the answer holds no certificates")
    if not all(isinstance(pem, str) for pem in certificates.values()):
        raise ValueError("the answer is not a map of certificates")
    return frozenset(certificates)


def _max_age(headers: Mapping[str, str]) -> float:
    found = re.search(r"max-age=(\d{1,9})", headers.get("cache-control", ""))
    seconds = int(found[1]) if found else DEFAULT_MAX_AGE_SECONDS
    return min(seconds, LONGEST_MAX_AGE_SECONDS)

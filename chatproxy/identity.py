"""From a request's headers to its Caller; warm, without a thread or a query."""

import hashlib
import io
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from accounts.authentication import bearer_token
from accounts.authentication import check_csrf as enforce_csrf
from accounts.errors import TokenLacksScope
from accounts.firebase import verify_id_token
from accounts.models import ApiToken
from accounts.services import user_for_identity
from accounts.tokens import find_token, is_api_token
from chatproxy.caches import DatabaseThreads, Remembered
from chatproxy.callers import Caller, load_caller
from tesslate.lib.errors import NotAuthenticated

# A verified token speaks for the same user as long as it is valid; whether that user may still
# chat is asked of the caller's own, much shorter-lived entry.
TOKEN_SECONDS = 300.0
MOST_TOKENS = 50_000
MOST_CALLERS = 50_000

Scope = MutableMapping[str, Any]
Headers = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a credential speaks for. ``expires_at`` in seconds since the epoch."""

    user_id: int
    expires_at: float
    api_token_id: int | None = None

    def lifetime(self) -> float:
        return self.expires_at - time.time()


class Identities:
    def __init__(self, threads: DatabaseThreads, *, seconds: float) -> None:
        self._tokens = Remembered[bytes, Bearer](
            threads=threads, seconds=TOKEN_SECONDS, size=MOST_TOKENS, lifetime=Bearer.lifetime
        )
        # What can be revoked, cookies and API tokens, is looked at again soon.
        self._revocable = Remembered[bytes, Bearer](
            threads=threads, seconds=seconds, size=MOST_TOKENS, lifetime=Bearer.lifetime
        )
        self.callers = Remembered[int, Caller](
            threads=threads, seconds=seconds, size=MOST_CALLERS, lifetime=Caller.lifetime
        )

    async def bearer(self, scope: Scope, headers: Headers) -> Bearer:
        """Raises NotAuthenticated (401), CsrfFailed (403), or Unavailable (503)."""
        authorization = headers.get(b"authorization")
        token = None if authorization is None else bearer_token(authorization)
        if token is not None:
            digest = _digest(token)
            if is_api_token(token):
                return self._revocable.get(digest) or await self._revocable.fetch(
                    digest, lambda: _bearer_of_api_token(token)
                )
            return self._tokens.get(digest) or await self._tokens.fetch(
                digest, lambda: _bearer_of_token(token)
            )
        session = _session_key(headers)
        if session is None:
            raise NotAuthenticated
        check_csrf(scope)
        digest = _digest(session)
        return self._revocable.get(digest) or await self._revocable.fetch(
            digest, lambda: _bearer_of_session(session)
        )

    async def caller(self, user_id: int) -> Caller:
        return self.callers.get(user_id) or await self.callers.fetch(
            user_id, lambda: load_caller(user_id)
        )

    def forget_all(self) -> None:
        self._tokens.forget_all()
        self._revocable.forget_all()
        self.callers.forget_all()

    def forget_users(self, user_ids: frozenset[int]) -> None:
        for user_id in user_ids:
            self.callers.forget(user_id)
        self._revocable.forget_where(lambda bearer: bearer.user_id in user_ids)


def check_csrf(scope: Scope) -> None:
    """Django's own check, on the request's headers alone. Raises CsrfFailed.

    Reading needs no token, as everywhere in Django.
    """
    enforce_csrf(ASGIRequest(dict(scope), io.BytesIO()))


def _session_key(headers: Headers) -> str | None:
    cookie = headers.get(b"cookie")
    if cookie is None:
        return None
    try:
        morsel = SimpleCookie(cookie.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return None
    return morsel.value if morsel is not None and morsel.value else None


def _bearer_of_token(token: str) -> Bearer:
    identity = verify_id_token(token)
    user = user_for_identity(identity=identity)
    return Bearer(user.pk, identity.expires_at)


def _bearer_of_api_token(value: str) -> Bearer:
    token = find_token(value)
    if ApiToken.Scope.CHAT not in token.scopes:
        raise TokenLacksScope
    expires_at = float("inf") if token.expires_at is None else token.expires_at.timestamp()
    return Bearer(token.user_id, expires_at, token.pk)


def _bearer_of_session(key: str) -> Bearer:
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    if user.pk is None:
        raise NotAuthenticated
    return Bearer(user.pk, request.session.get_expiry_date().timestamp())


def _digest(secret: str) -> bytes:
    return hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=16).digest()

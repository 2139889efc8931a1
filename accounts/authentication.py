"""How DRF views learn who is calling."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import (
    BaseAuthentication,
    CSRFCheck,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.errors import CsrfFailed, TokenLacksScope
from accounts.firebase import Identity, verify_id_token
from accounts.models import ApiToken, User
from accounts.signin import user_for_identity
from accounts.tokens import find_token, is_api_token
from tesslate.lib.errors import InvalidToken, NotAuthenticated


def bearer_token(header: bytes) -> str | None:
    """The token in an Authorization header; None when there is none or of another scheme.

    Raises InvalidToken for a bearer header that holds no token, or several words.
    """
    scheme, _, token = header.strip().partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    token = token.strip()
    if not token or b" " in token or not token.isascii():
        raise InvalidToken
    return token.decode("ascii")


class FirebaseAuthentication(BaseAuthentication):
    """``Authorization: Bearer <Firebase ID token>``; ``request.auth`` is the Identity."""

    def authenticate(self, request: Request) -> tuple[User, Identity] | None:
        token = bearer_token(get_authorization_header(request))
        if token is None:
            return None
        identity = verify_id_token(token)
        return user_for_identity(identity=identity), identity

    def authenticate_header(self, request: Request) -> str:
        return NotAuthenticated.challenge


class CookieAuthentication(SessionAuthentication):
    """Django's session cookie; every request that is not a plain read needs the CSRF token too."""

    def enforce_csrf(self, request: Request) -> None:
        check_csrf(request._request)


class ApiTokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer tk-…``; ``request.auth`` is the ApiToken.

    Views that accept these name them first, and say with ``needs_scope`` for what.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        value = bearer_token(get_authorization_header(request))
        if value is None or not is_api_token(value):
            return None
        token = find_token(value)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return NotAuthenticated.challenge


def needs_scope(scope: str) -> type[BasePermission]:
    """A DRF permission: an API token must have ``scope``; people who signed in may anyway."""

    class NeedsScope(BasePermission):
        def has_permission(self, request: Request, view: Any) -> bool:
            if isinstance(request.auth, ApiToken) and scope not in request.auth.scopes:
                raise TokenLacksScope
            return True

    return NeedsScope


def check_csrf(request: HttpRequest) -> None:
    """Django's own check. Raises CsrfFailed."""
    check = CSRFCheck(_no_response)
    check.process_request(request)
    if check.process_view(request, _no_response, (), {}) is not None:
        raise CsrfFailed


def _no_response(request: HttpRequest) -> HttpResponse:
    """What Django's check wants to wrap; it is never called."""
    raise NotImplementedError

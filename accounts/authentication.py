"""How DRF views learn who is calling."""

from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import (
    BaseAuthentication,
    CSRFCheck,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.request import Request

from accounts.errors import CsrfFailed
from accounts.firebase import Identity, verify_id_token
from accounts.models import User
from accounts.signin import user_for_identity
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
        check = CSRFCheck(_no_response)
        check.process_request(request._request)
        if check.process_view(request._request, _no_response, (), {}) is not None:
            raise CsrfFailed


def _no_response(request: HttpRequest) -> HttpResponse:
    """What Django's check wants to wrap; it is never called."""
    raise NotImplementedError

"""Who a Firebase ID token speaks for.

firebase-admin does the verification, with the same code against Firebase and against a stand-in:
only FIREBASE_CERTS_URL and FIREBASE_PROJECT_ID differ. It needs no credential, since nothing but
public certificates is fetched; a token is therefore good until it expires (an hour at most), even
if its user is disabled at Firebase meanwhile. To shut somebody out at once, suspend them here.
"""

import hashlib
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import firebase_admin
import google.auth.credentials
import google.auth.jwt
from django.conf import settings
from firebase_admin import auth
from google.auth.exceptions import TransportError

from accounts.certificates import Certificates
from accounts.errors import TokenExpired
from tesslate.lib.errors import InvalidToken, Unavailable

# Firebase's own are about 1 kB; custom claims may add as much.
LONGEST_TOKEN = 8192
CLOCK_SKEW_SECONDS = 5
# A verified token is believed this long without looking at its signature again.
BELIEVED_SECONDS = 300
BELIEVED_TOKENS = 20_000


@dataclass(frozen=True, slots=True)
class Identity:
    """What Firebase vouches for. Times are seconds since the epoch."""

    uid: str
    # Lower case; empty for sign-ins without one (telephone, anonymous).
    email: str
    email_verified: bool
    name: str
    issued_at: float
    # When the person last proved who they are, as opposed to refreshing a token.
    authenticated_at: float
    expires_at: float


class CertificatesUnavailable(Unavailable):
    code = "sign_in_unavailable"
    message = "Sign-ins cannot be checked at the moment. Try again shortly."


class Verifier:
    """Verifies ID tokens of one project, remembering those it has verified."""

    def __init__(self, project_id: str, certificates: Certificates) -> None:
        self.certificates = certificates
        self._client = _client(project_id, certificates)
        self._believed: dict[bytes, tuple[float, Identity]] = {}
        self._lock = threading.Lock()

    def cached(self, token: str) -> Identity | None:
        """The identity behind a token verified a short while ago. A few microseconds."""
        entry = self._believed.get(_digest(token))
        if entry is None or entry[0] <= time.time():
            return None
        return entry[1]

    def verify(self, token: str) -> Identity:
        """Raises InvalidToken, or CertificatesUnavailable when nobody can tell."""
        if not token or len(token) > LONGEST_TOKEN:
            raise InvalidToken
        if identity := self.cached(token):
            return identity
        try:
            identity = _identity(self._claims(token))
        except TransportError as error:
            raise CertificatesUnavailable from error
        self._believe(token, identity)
        return identity

    def _claims(self, token: str) -> dict[str, Any]:
        """Verified claims. Raises InvalidToken or TransportError."""
        try:
            return self._library_verdict(token)
        except InvalidToken:
            # Perhaps a key that Firebase began to use since we last looked.
            key_id = _key_id(token)
            if self.certificates.age_seconds is None or key_id is None:
                raise
            if key_id in self.certificates.key_ids or not self.certificates.look_again_for(key_id):
                raise
            return self._library_verdict(token)

    def _library_verdict(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = self._client.verify_id_token(
                token, clock_skew_seconds=CLOCK_SKEW_SECONDS
            )
        except auth.CertificateFetchError as error:
            raise TransportError(str(error)) from error
        except auth.ExpiredIdTokenError as error:
            raise TokenExpired from error
        except (auth.InvalidIdTokenError, ValueError) as error:
            raise InvalidToken from error
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            # The library expects objects: a header or payload that is a list, or absurdly nested.
            raise InvalidToken from error
        return claims

    def _believe(self, token: str, identity: Identity) -> None:
        until = min(identity.expires_at, time.time() + BELIEVED_SECONDS)
        with self._lock:
            while len(self._believed) >= BELIEVED_TOKENS:
                del self._believed[next(iter(self._believed))]  # the oldest
            self._believed[_digest(token)] = (until, identity)


def verify_id_token(token: str) -> Identity:
    """Who this token speaks for; blocks on the network when certificates have to be fetched.

    Raises InvalidToken (401), or CertificatesUnavailable (503) when nobody can tell because the
    certificate server does not answer and nothing is in memory.
    """
    return verifier().verify(token)


def cached_identity(token: str) -> Identity | None:
    """The same for a token verified a short while ago, without blocking; otherwise None."""
    return verifier().cached(token)


def verifier() -> Verifier:
    """This process's verifier for the configured project."""
    # Not for lru_cache alone: it lets simultaneous first callers build one each.
    with _building:
        return _verifier(settings.FIREBASE_PROJECT_ID, settings.FIREBASE_CERTS_URL)


_building = threading.Lock()


@lru_cache(maxsize=1)
def _verifier(project_id: str, certs_url: str) -> Verifier:
    return Verifier(project_id, Certificates(certs_url))


def _client(project_id: str, certificates: Certificates) -> auth.Client:
    """firebase-admin's verifier on our certificates.

    The library has no public parameter for where certificates come from. This one attribute is
    the only private thing touched; tests/accounts/test_firebase.py notices when it moves.
    """
    credential = google.auth.credentials.AnonymousCredentials()
    app = firebase_admin.App("tesslate", credential, {"projectId": project_id})
    client = auth.Client(app)
    client._token_verifier.request = certificates
    return client


def _identity(claims: dict[str, Any]) -> Identity:
    return Identity(
        uid=claims["uid"],
        email=_text(claims.get("email"), longest=254).lower(),
        email_verified=claims.get("email_verified") is True,
        name=_text(claims.get("name"), longest=200),
        issued_at=float(claims["iat"]),
        authenticated_at=float(claims.get("auth_time") or 0),
        expires_at=float(claims["exp"]),
    )


def _text(value: object, *, longest: int) -> str:
    """What PostgreSQL can store of a claim that its owner may have chosen freely."""
    return str(value or "").replace("\x00", "").strip()[:longest]


def _key_id(token: str) -> str | None:
    try:
        key_id = google.auth.jwt.decode_header(token).get("kid")
    except (ValueError, AttributeError, RecursionError):
        return None
    return key_id if isinstance(key_id, str) and key_id else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

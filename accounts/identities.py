"""Firebase's own accounts of people, as an administrator of the project may change them.

Over the Identity Toolkit's REST interface with the project's service account, with the same code
against Firebase and against a stand-in: only FIREBASE_AUTH_URL and the account's own ``token_uri``
differ. Nothing else here needs a credential at Firebase.
https://cloud.google.com/identity-platform/docs/reference/rest/v1/projects.accounts/delete
"""

from functools import lru_cache
from typing import Any

import requests
from django.conf import settings
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.service_account import Credentials

SCOPE = "https://www.googleapis.com/auth/identitytoolkit"
TIMEOUT_SECONDS = 10


class IdentityError(Exception):
    """Base of what goes wrong here. Texts name neither person nor credential."""


class IdentityUnavailable(IdentityError):
    """Firebase cannot be reached, or not now: try again."""


class IdentityRefused(IdentityError):
    """Firebase will not do it, for this account or with this credential."""


def is_configured() -> bool:
    return bool(settings.FIREBASE_SERVICE_ACCOUNT_FILE)


def delete_identity(uid: str) -> None:
    """Make sure that Firebase has no account with this id; one that it does not know counts as
    deleted. Raises IdentityError."""
    url = f"{settings.FIREBASE_AUTH_URL}/v1/projects/{settings.FIREBASE_PROJECT_ID}/accounts:delete"
    try:
        answer = _session(settings.FIREBASE_SERVICE_ACCOUNT_FILE).post(
            url, json={"localId": uid}, timeout=TIMEOUT_SECONDS
        )
    except GoogleAuthError as error:
        if error.retryable:
            raise IdentityUnavailable(type(error).__name__) from None
        raise IdentityRefused(f"the service account: {type(error).__name__}") from None
    except requests.RequestException as error:
        raise IdentityUnavailable(type(error).__name__) from None
    if answer.status_code == 200 or _word(answer) == "USER_NOT_FOUND":
        return
    if answer.status_code == 429 or answer.status_code >= 500:
        raise IdentityUnavailable(f"answered {answer.status_code}")
    raise IdentityRefused(f"{answer.status_code} {_word(answer)}")


@lru_cache(maxsize=2)
def _session(path: str) -> AuthorizedSession:
    try:
        credentials = Credentials.from_service_account_file(path, scopes=[SCOPE])
    except (OSError, ValueError) as error:
        raise IdentityRefused(f"the service account's file: {type(error).__name__}") from None
    return AuthorizedSession(credentials)


def _word(answer: requests.Response) -> str:
    """``USER_NOT_FOUND`` and the like: what follows the first word may be anything."""
    try:
        body: Any = answer.json()
        message = str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
    word = message.split(" ")[0]
    return word if word.isupper() and len(word) < 60 else ""

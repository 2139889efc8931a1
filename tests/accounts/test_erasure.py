"""Closing an account takes the person's own account at Firebase with it, sooner or later."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from accounts import erasure, identities
from accounts.erasure import erase_identities
from accounts.models import AuditEntry, User
from accounts.services import delete_account
from sandbox.firebase.administration import write_service_account
from sandbox.firebase.app import create_app
from sandbox.serving import served
from tesslate.lib.cause import Cause
from tests.factories import UserFactory
from tests.firebase import PROJECT

pytestmark = pytest.mark.django_db
CAUSE = Cause.system("test")
KEY = "web-key"


class Firebase:
    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, params={"key": KEY})

    def person(self, email: str) -> User:
        """Somebody with an account at both."""
        body = {"email": email, "password": "correct horse", "returnSecureToken": True}
        uid = self.http.post("/v1/accounts:signUp", json=body).raise_for_status().json()["localId"]
        return UserFactory.create(email=email, firebase_uid=uid)

    def knows(self, email: str) -> bool:
        body = {"email": email, "password": "correct horse"}
        return self.http.post("/v1/accounts:signInWithPassword", json=body).status_code == 200


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    with served(create_app(project_id=PROJECT, api_key=KEY)) as url:
        yield url


@pytest.fixture
def firebase(stand_in: str, settings: Any, tmp_path: Path, free_plan: Any) -> Iterator[Firebase]:
    path = tmp_path / "service-account.json"
    write_service_account(path, project_id=PROJECT, url=stand_in)
    settings.FIREBASE_AUTH_URL = stand_in
    settings.FIREBASE_PROJECT_ID = PROJECT
    settings.FIREBASE_SERVICE_ACCOUNT_FILE = str(path)
    made = Firebase(stand_in)
    yield made
    made.http.close()


def close(user: User) -> None:
    delete_account(user_id=user.pk, cause=CAUSE)
    user.refresh_from_db()


def test_a_closed_account_is_deleted_at_firebase_and_that_is_recorded(firebase: Firebase) -> None:
    user, other = firebase.person("gone@example.com"), firebase.person("stays@example.com")
    close(user)

    assert erase_identities() == 1
    assert not firebase.knows("gone@example.com")
    assert firebase.knows(other.email)
    user.refresh_from_db()
    assert user.identity_erased_at is not None
    assert user.firebase_uid
    assert AuditEntry.objects.filter(user=user, action="user.identity_erased").count() == 1
    assert erase_identities() == 0


def test_an_account_that_its_holder_deleted_counts_as_deleted(firebase: Firebase) -> None:
    user = UserFactory.create(firebase_uid="deleted-long-ago")
    close(user)

    assert erase_identities() == 1


def test_people_without_an_account_at_firebase_are_left_out(firebase: Firebase) -> None:
    close(UserFactory.create(firebase_uid=None))

    assert erase_identities() == 0


def test_while_firebase_is_down_it_waits_and_is_done_later(
    firebase: Firebase, settings: Any, caplog: Any
) -> None:
    user = firebase.person("later@example.com")
    close(user)
    settings.FIREBASE_AUTH_URL = "http://127.0.0.1:9"

    assert erase_identities() == 0
    assert "not erased at Firebase yet: ConnectionError" in caplog.text
    user.refresh_from_db()
    assert user.identity_erased_at is None

    settings.FIREBASE_AUTH_URL = firebase.url
    assert erase_identities() == 1
    assert not firebase.knows("later@example.com")


def test_one_that_is_refused_holds_up_nobody_else(
    firebase: Firebase, monkeypatch: Any, caplog: Any
) -> None:
    refused, user = firebase.person("refused@example.com"), firebase.person("next@example.com")
    close(refused)
    close(user)
    delete = identities.delete_identity

    def refuse(uid: str) -> None:
        if uid == refused.firebase_uid:
            raise identities.IdentityRefused("403 PERMISSION_DENIED")
        delete(uid)

    monkeypatch.setattr(erasure, "delete_identity", refuse)

    assert erase_identities() == 1
    assert "403 PERMISSION_DENIED" in caplog.text
    assert not firebase.knows("next@example.com")


def test_without_a_service_account_it_is_left_to_the_holder(
    firebase: Firebase, settings: Any
) -> None:
    user = firebase.person("holder@example.com")
    close(user)
    settings.FIREBASE_SERVICE_ACCOUNT_FILE = ""

    assert erase_identities() == 0
    assert firebase.knows("holder@example.com")
    user.refresh_from_db()
    assert user.identity_erased_at is None


@pytest.mark.parametrize("content", ["", "{}", '{"type": "authorized_user"}'])
def test_a_file_that_is_no_service_account_is_told_without_its_content(
    firebase: Firebase, settings: Any, tmp_path: Path, caplog: Any, content: str
) -> None:
    close(firebase.person(f"file{len(content)}@example.com"))
    path = tmp_path / "other.json"
    path.write_text(content)
    settings.FIREBASE_SERVICE_ACCOUNT_FILE = str(path)

    assert erase_identities() == 0
    assert "the service account's file" in caplog.text


def test_a_credential_that_is_refused_is_told_and_never_shown(
    firebase: Firebase, settings: Any, caplog: Any
) -> None:
    close(firebase.person("scope@example.com"))
    path = Path(settings.FIREBASE_SERVICE_ACCOUNT_FILE)
    account = json.loads(path.read_text())
    account["token_uri"] = f"{firebase.url}/nowhere"
    other = path.with_name("refused.json")
    other.write_text(json.dumps(account))
    settings.FIREBASE_SERVICE_ACCOUNT_FILE = str(other)

    assert erase_identities() == 0
    assert "the service account: RefreshError" in caplog.text
    assert "PRIVATE KEY" not in caplog.text


def test_only_a_token_of_the_service_account_deletes(firebase: Firebase) -> None:
    user = firebase.person("safe@example.com")
    path = f"/v1/projects/{PROJECT}/accounts:delete"

    answer = firebase.http.post(
        path, json={"localId": user.firebase_uid}, headers={"authorization": "Bearer made-up"}
    )

    assert answer.status_code == 401
    assert firebase.knows("safe@example.com")

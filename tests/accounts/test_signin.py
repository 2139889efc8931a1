"""How a verified identity becomes a user of ours."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from accounts import signin
from accounts.errors import (
    AccountDeleted,
    AccountInactive,
    EmailInUse,
    EmailNotVerified,
    EmailRequired,
)
from accounts.firebase import Identity
from accounts.models import AuditEntry, User
from accounts.services import delete_account
from accounts.signals import accounts_changed
from accounts.signin import user_for_identity
from tesslate.lib.cause import Cause
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]

ALICE = Identity(
    uid="alice-uid",
    email="alice@example.com",
    email_verified=True,
    name="Alice",
    issued_at=1_000_000.0,
    authenticated_at=1_000_000.0,
    expires_at=time.time() + 3600,
)


@contextmanager
def heard() -> Iterator[list[dict[str, Any]]]:
    calls: list[dict[str, Any]] = []

    def listen(sender: object, **kwargs: Any) -> None:
        assert connection.in_atomic_block
        calls.append(kwargs)

    accounts_changed.connect(listen)
    try:
        yield calls
    finally:
        accounts_changed.disconnect(listen)


def test_first_sight_makes_a_user_and_tells_the_apps_above():
    with heard() as calls:
        user = user_for_identity(identity=ALICE)

    assert (user.email, user.firebase_uid, user.display_name) == (
        "alice@example.com",
        "alice-uid",
        "Alice",
    )
    assert not user.has_usable_password()
    assert not user.is_staff
    assert [call["user_ids"] for call in calls] == [[user.pk]]
    assert AuditEntry.objects.filter(user=user, action="user.created").count() == 1


def test_second_sight_finds_the_same_user_with_one_query(django_assert_num_queries):
    user = user_for_identity(identity=ALICE)

    with heard() as calls, django_assert_num_queries(1):
        assert user_for_identity(identity=ALICE) == user
    assert calls == []


def test_unverified_address_may_open_a_fresh_account():
    user = user_for_identity(identity=replace(ALICE, email_verified=False))

    assert user.email == "alice@example.com"


def test_sign_in_without_address_is_refused():
    with pytest.raises(EmailRequired):
        user_for_identity(identity=replace(ALICE, email=""))

    assert not User.objects.exists()


def test_account_without_firebase_user_is_linked_by_verified_address():
    imported = UserFactory.create(email=ALICE.email, firebase_uid=None)

    user = user_for_identity(identity=ALICE)

    assert user == imported
    imported.refresh_from_db()
    assert imported.firebase_uid == "alice-uid"
    assert AuditEntry.objects.filter(user=user, action="user.linked").exists()


def test_account_without_firebase_user_is_not_linked_by_unverified_address():
    imported = UserFactory.create(email=ALICE.email, firebase_uid=None)

    with pytest.raises(EmailNotVerified):
        user_for_identity(identity=replace(ALICE, email_verified=False))

    imported.refresh_from_db()
    assert imported.firebase_uid is None


def test_staff_account_is_never_linked(staff: User):
    with pytest.raises(EmailInUse):
        user_for_identity(identity=replace(ALICE, email=staff.email))

    staff.refresh_from_db()
    assert staff.firebase_uid is None


def test_address_of_another_firebase_user_is_refused():
    UserFactory.create(email=ALICE.email, firebase_uid="somebody-else")

    with pytest.raises(EmailInUse):
        user_for_identity(identity=ALICE)

    assert User.objects.count() == 1


def test_new_address_and_name_are_followed():
    user = user_for_identity(identity=ALICE)
    married = replace(ALICE, email="alice@new.example", name="Alice B", issued_at=1_000_060.0)

    user_for_identity(identity=married)

    user.refresh_from_db()
    assert (user.email, user.display_name) == ("alice@new.example", "Alice B")
    entry = AuditEntry.objects.get(action="user.profile_changed")
    assert entry.before == {"email": "alice@example.com", "display_name": "Alice"}


def test_token_from_before_a_change_does_not_undo_it():
    user = user_for_identity(identity=ALICE)
    user_for_identity(identity=replace(ALICE, email="alice@new.example", issued_at=1_000_060.0))

    user_for_identity(identity=ALICE)

    user.refresh_from_db()
    assert user.email == "alice@new.example"


def test_address_that_is_taken_is_not_followed_but_the_name_is(stranger: User):
    user = user_for_identity(identity=ALICE)

    found = user_for_identity(
        identity=replace(ALICE, email=stranger.email, name="Al", issued_at=1_000_060.0)
    )

    assert found == user
    user.refresh_from_db()
    assert (user.email, user.display_name) == ("alice@example.com", "Al")


def test_token_without_name_keeps_the_one_we_have():
    user = user_for_identity(identity=ALICE)
    user_for_identity(identity=replace(ALICE, name="", issued_at=1_000_060.0))

    user.refresh_from_db()
    assert user.display_name == "Alice"


def test_switched_off_account_is_refused():
    user = user_for_identity(identity=ALICE)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with pytest.raises(AccountInactive):
        user_for_identity(identity=ALICE)


def test_deleted_account_is_refused_and_not_made_again():
    user = user_for_identity(identity=ALICE)
    delete_account(user_id=user.pk, cause=Cause.user(user.pk))

    with pytest.raises(AccountDeleted):
        user_for_identity(identity=ALICE)

    assert User.objects.count() == 1
    user.refresh_from_db()
    assert user.email != ALICE.email


def test_suspended_user_still_signs_in():
    user = user_for_identity(identity=ALICE)
    User.objects.filter(pk=user.pk).update(suspended_at=user.date_joined)

    assert user_for_identity(identity=ALICE).may_use_models is False


@pytest.mark.django_db(transaction=True)
def test_simultaneous_first_requests_make_one_user():
    barrier = threading.Barrier(4)

    def sign_in(_: int) -> int:
        barrier.wait(5)
        try:
            return user_for_identity(identity=ALICE).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(sign_in, range(4)))

    assert found == {User.objects.get().pk}
    assert AuditEntry.objects.filter(action="user.created").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_people_with_one_address_at_once_make_one_user():
    barrier = threading.Barrier(2)

    def sign_in(uid: str) -> bool:
        barrier.wait(5)
        try:
            user_for_identity(identity=replace(ALICE, uid=uid))
        except EmailInUse:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(sign_in, ["uid-a", "uid-b"])) == [False, True]
    assert User.objects.count() == 1


def test_a_sign_in_that_was_checked_before_the_account_was_closed_brings_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
):
    user = user_for_identity(identity=ALICE)
    is_news = signin._is_news

    def closed_meanwhile(user: User, identity: Identity) -> bool:
        delete_account(user_id=user.pk, cause=Cause.system("test"))
        return is_news(user, identity)

    monkeypatch.setattr(signin, "_is_news", closed_meanwhile)
    later = replace(ALICE, email="alice.new@example.com", name="A.", issued_at=2_000_000.0)

    with pytest.raises(AccountDeleted):
        user_for_identity(identity=later)

    user.refresh_from_db()
    assert (user.email, user.display_name) == (f"deleted-{user.pk}@deleted.invalid", "")

"""What staff and users do to accounts."""

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, Invitation, User
from accounts.services import delete_account, reinstate_user, sign_out_everywhere, suspend_user
from accounts.signals import accounts_changed
from tesslate.lib.cause import Cause
from tests.factories import OrganizationFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]
CAUSE = Cause.system("test")


class ReceiverFailed(Exception): ...


@pytest.fixture
def failing_receiver():
    def fail(**kwargs: object) -> None:
        raise ReceiverFailed

    accounts_changed.connect(fail)
    yield
    accounts_changed.disconnect(fail)


def test_suspending_withdraws_models_and_says_why(user: User, staff: User):
    assert suspend_user(user_id=user.pk, reason="abuse", cause=Cause.staff(staff.pk)) is True

    user.refresh_from_db()
    assert user.suspended_at is not None
    assert user.may_use_models is False
    assert user.is_active is True
    entry = AuditEntry.objects.get(action="user.suspended")
    assert (entry.user, entry.actor, entry.reason) == (user, staff, "abuse")


def test_suspending_twice_is_one_act(user: User):
    suspend_user(user_id=user.pk, reason="first", cause=CAUSE)

    assert suspend_user(user_id=user.pk, reason="second", cause=CAUSE) is False
    user.refresh_from_db()
    assert user.suspension_reason == "first"
    assert AuditEntry.objects.count() == 1


def test_reinstating_undoes_a_suspension(user: User):
    suspend_user(user_id=user.pk, reason="abuse", cause=CAUSE)

    assert reinstate_user(user_id=user.pk, reason="mistake", cause=CAUSE) is True
    assert reinstate_user(user_id=user.pk, reason="again", cause=CAUSE) is False

    user.refresh_from_db()
    assert user.may_use_models is True
    assert user.suspension_reason == ""


def test_act_and_what_receivers_write_stand_or_fall_together(user: User, failing_receiver):
    with pytest.raises(ReceiverFailed):
        suspend_user(user_id=user.pk, reason="abuse", cause=CAUSE)

    user.refresh_from_db()
    assert user.suspended_at is None
    assert not AuditEntry.objects.exists()


def test_deleting_erases_the_person_and_keeps_the_row(user: User):
    assert delete_account(user_id=user.pk, cause=CAUSE) is True
    assert delete_account(user_id=user.pk, cause=CAUSE) is False

    user.refresh_from_db()
    assert user.email == f"deleted-{user.pk}@deleted.invalid"
    assert user.display_name == ""
    assert user.may_use_models is False
    assert user.is_active is False


def test_deleting_takes_the_address_out_of_the_audit_trail(user: User):
    AuditEntry.objects.create(
        action="user.profile_changed",
        cause_kind="user",
        user=user,
        before={"email": "old@example.com"},
        after={"email": user.email},
    )

    delete_account(user_id=user.pk, cause=CAUSE)

    entry = AuditEntry.objects.get(action="user.profile_changed")
    assert (entry.before, entry.after) == (None, None)


def test_deleting_takes_the_address_out_of_accepted_invitations(user: User):
    Invitation.objects.create(
        organization=OrganizationFactory.create(),
        email=user.email,
        token_hash="0" * 64,
        expires_at=timezone.now(),
        accepted_at=timezone.now(),
        accepted_by=user,
    )

    delete_account(user_id=user.pk, cause=CAUSE)

    assert "alice" not in Invitation.objects.get().email


def test_deleted_account_is_neither_suspended_nor_reinstated(user: User):
    delete_account(user_id=user.pk, cause=CAUSE)

    assert suspend_user(user_id=user.pk, reason="x", cause=CAUSE) is False
    assert reinstate_user(user_id=user.pk, reason="x", cause=CAUSE) is False


def test_signing_out_everywhere_ends_cookie_sessions(client: Client, user: User):
    client.force_login(user)
    assert client.get("/api/auth/session").status_code == 200

    sign_out_everywhere(user_id=user.pk, cause=CAUSE)

    assert client.get("/api/auth/session").status_code == 401

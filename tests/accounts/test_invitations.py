"""Invitations: by mail, for one address, once, for a while."""

import re
import smtplib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import invitations
from accounts.errors import InvitationNotFound
from accounts.models import AuditEntry, Invitation, Membership, Organization, User
from accounts.organizations import create_organization
from accounts.tasks import forget_invitations
from tesslate.lib.crypto import sha256_hex
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan", "empty_cache")]


@pytest.fixture
def organization(user: User) -> Organization:
    return create_organization(owner=user, name="Acme")


@pytest.fixture
def guest(db) -> User:
    return UserFactory.create(email="guest@example.com")


def invite(api: APIClient, organization: Organization, email="guest@example.com", **more):
    owner = organization.memberships.get(role="owner").user
    api.force_authenticate(owner)
    return api.post(
        f"/api/organizations/{organization.pk}/invitations", {"email": email, **more}, "json"
    )


def token_in(message: mail.EmailMessage) -> str:
    found = re.search(r"http://testserver/account#invitation=(\S+)", str(message.body))
    assert found is not None
    return found[1]


def accept(api: APIClient, user: User, token: str):
    api.force_authenticate(user)
    return api.post("/api/invitations/accept", {"token": token}, "json")


def code(response) -> str:
    return str(response.json()["error"]["code"])


def test_invited_person_gets_a_link_and_joins(api: APIClient, organization, guest):
    response = invite(api, organization)

    assert response.status_code == 201
    assert response.json()["is_sent"] is True
    assert mail.outbox[0].to == ["guest@example.com"]
    assert "Alice invites you to join Acme" in str(mail.outbox[0].body)
    joined = accept(api, guest, token_in(mail.outbox[0]))
    assert joined.status_code == 200
    assert joined.json()["role"] == "member"
    assert organization.memberships.filter(user=guest, role="member").exists()
    assert AuditEntry.objects.filter(action="organization.member_joined", user=guest).exists()


def test_link_is_only_in_the_mail(api: APIClient, organization):
    response = invite(api, organization)

    token = token_in(mail.outbox[0])
    assert token not in response.content.decode()
    assert token not in str(list(Invitation.objects.values()))
    assert token not in str(list(AuditEntry.objects.values()))
    assert Invitation.objects.get().token_hash == sha256_hex(token)


def test_link_works_once(api: APIClient, organization, guest):
    invite(api, organization)
    token = token_in(mail.outbox[0])
    accept(api, guest, token)
    Membership.objects.filter(user=guest).delete()

    response = accept(api, guest, token)

    assert (response.status_code, code(response)) == (404, "invitation_not_found")
    assert not organization.memberships.filter(user=guest).exists()


def test_link_is_of_no_use_to_others(api: APIClient, organization, stranger):
    invite(api, organization)

    response = accept(api, stranger, token_in(mail.outbox[0]))

    assert (response.status_code, code(response)) == (403, "invitation_for_somebody_else")
    assert not organization.memberships.filter(user=stranger).exists()
    assert Invitation.objects.get().accepted_at is None


def test_link_expires(api: APIClient, organization, guest):
    invite(api, organization)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    response = accept(api, guest, token_in(mail.outbox[0]))

    assert (response.status_code, code(response)) == (410, "invitation_expired")
    assert not organization.memberships.filter(user=guest).exists()


def test_withdrawn_link_is_of_no_use(api: APIClient, organization, guest):
    number = invite(api, organization).json()["id"]
    path = f"/api/organizations/{organization.pk}/invitations"

    assert api.delete(f"{path}/{number}").status_code == 204

    assert api.delete(f"{path}/{number}").status_code == 404
    assert api.get(path).json()["invitations"] == []
    assert accept(api, guest, token_in(mail.outbox[0])).status_code == 404


def test_second_invitation_replaces_the_first(api: APIClient, organization, guest):
    invite(api, organization)
    invite(api, organization, "Guest@Example.com")
    old, new = (token_in(message) for message in mail.outbox)

    assert accept(api, guest, old).status_code == 404
    assert accept(api, guest, new).status_code == 200


def test_invitation_may_be_for_an_owner(api: APIClient, organization, guest):
    invite(api, organization, role="owner")

    accept(api, guest, token_in(mail.outbox[0]))

    assert organization.memberships.get(user=guest).role == "owner"


def test_member_is_not_invited(api: APIClient, organization, user):
    response = invite(api, organization, user.email.upper())

    assert (response.status_code, code(response)) == (409, "already_member")
    assert not Invitation.objects.exists()
    assert mail.outbox == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": ""},
        {"email": "nobody"},
        {"email": "a@b.example\nBcc: c@d.example"},
        {"email": "x" * 250 + "@example.com"},
        {"email": "a@b.example", "role": "king"},
    ],
)
def test_bad_input_invites_nobody(api: APIClient, organization, user, body):
    api.force_authenticate(user)
    response = api.post(f"/api/organizations/{organization.pk}/invitations", body, "json")

    assert response.status_code == 400
    assert mail.outbox == []


def test_name_with_line_breaks_breaks_no_mail(api: APIClient, organization):
    Organization.objects.update(name="Acme\nBcc: everyone@example.com")

    assert invite(api, organization).status_code == 201

    assert "\n" not in mail.outbox[0].subject
    assert mail.outbox[0].recipients() == ["guest@example.com"]


def test_mail_server_that_refuses_is_shown(api: APIClient, organization, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise smtplib.SMTPRecipientsRefused({})

    monkeypatch.setattr(invitations, "send_mail", refuse)

    response = invite(api, organization)

    assert response.status_code == 201
    assert response.json()["is_sent"] is False


def test_open_invitations_are_limited(api: APIClient, organization, monkeypatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 1)
    invite(api, organization, "one@example.com")

    response = invite(api, organization, "two@example.com")

    assert (response.status_code, code(response)) == (409, "too_many_invitations")
    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    ("days", "ended", "kept"),
    [
        (31, {}, False),
        (29, {}, True),
        (1, {"revoked_at": 31}, False),
        (1, {"revoked_at": 29}, True),
        (31, {"accepted_at": 35}, True),
    ],
    ids=["expired", "expired lately", "withdrawn", "withdrawn lately", "accepted"],
)
def test_an_offer_that_nobody_took_up_is_forgotten(organization, days, ended, kept):
    now = timezone.now()
    Invitation.objects.create(
        organization=organization,
        email="guest@example.com",
        token_hash="0" * 64,
        expires_at=now - timedelta(days=days),
        **{name: now - timedelta(days=ago) for name, ago in ended.items()},
    )

    forget_invitations()

    assert Invitation.objects.exists() is kept


@pytest.mark.parametrize("token", ["", "wrong", None, "x" * 500, 7, []])
def test_made_up_link_is_refused(api: APIClient, guest, token):
    assert accept(api, guest, token).status_code in {400, 404}


def test_nobody_cannot_accept(api: APIClient):
    assert api.post("/api/invitations/accept", {"token": "x"}, "json").status_code == 401


def test_accepting_twice_at_once_joins_once(transactional_db, api, user, guest):
    organization = create_organization(owner=user, name="Acme")
    invite(api, organization)
    token = token_in(mail.outbox[0])
    barrier = threading.Barrier(2)

    def join(_: int) -> bool:
        barrier.wait(5)
        try:
            invitations.accept(token=token, user=guest)
        except InvitationNotFound:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(join, range(2))) == [False, True]
    assert organization.memberships.count() == 2

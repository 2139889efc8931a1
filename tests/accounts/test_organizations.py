"""Organizations: who may do what to whom, and who is told."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts import organizations
from accounts.errors import LastOwner
from accounts.models import AuditEntry, Membership, Organization, User
from accounts.organizations import change_role, remove_member
from accounts.services import delete_account
from accounts.signals import accounts_changed
from tesslate.lib.cause import Cause
from tests.factories import MembershipFactory, OrganizationFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan", "empty_cache")]
OWNER, MEMBER = Membership.Role.OWNER, Membership.Role.MEMBER


@pytest.fixture
def organization(user: User) -> Organization:
    """Alice owns it, Bob is a member."""
    organization = OrganizationFactory.create(name="Acme")
    MembershipFactory.create(organization=organization, user=user, role=OWNER)
    return organization


@pytest.fixture
def teammate(organization: Organization) -> User:
    bob = UserFactory.create(email="bob@example.com", display_name="Bob")
    MembershipFactory.create(organization=organization, user=bob, role=MEMBER)
    return bob


@pytest.fixture
def told() -> Iterator[list[set[int]]]:
    calls: list[set[int]] = []

    def listen(sender: object, user_ids: list[int], **kwargs: object) -> None:
        assert connection.in_atomic_block
        calls.append(set(user_ids))

    accounts_changed.connect(listen)
    yield calls
    accounts_changed.disconnect(listen)


def acting(api: APIClient, user: User) -> APIClient:
    api.force_authenticate(user)
    return api


def roles(organization: Organization) -> dict[int, str]:
    return dict(organization.memberships.values_list("user_id", "role"))


def test_founder_owns_the_organization(api: APIClient, user: User, told):
    response = acting(api, user).post("/api/organizations", {"name": "Acme"}, "json")

    assert response.status_code == 201
    body = response.json()
    assert (body["name"], body["role"]) == ("Acme", "owner")
    assert roles(Organization.objects.get(pk=body["id"])) == {user.pk: OWNER}
    assert told == [{user.pk}]
    assert AuditEntry.objects.filter(action="organization.created", user=user).exists()
    assert api.get("/api/organizations").json()["organizations"] == [body]


def test_a_name_is_one_line(api: APIClient, user: User):
    acting(api, user).post("/api/organizations", {"name": "Acme \r\nInc"}, "json")
    organization = Organization.objects.get()
    assert organization.name == "Acme Inc"

    api.patch(f"/api/organizations/{organization.pk}", {"name": "Acme\tLtd"}, "json")
    organization.refresh_from_db()
    assert organization.name == "Acme Ltd"


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 201}, {"name": "a\x00"}, []])
def test_bad_name_founds_nothing(api: APIClient, user: User, body):
    response = acting(api, user).post("/api/organizations", body, "json")

    assert response.status_code == 400
    assert not Organization.objects.exists()


def test_number_of_organizations_is_limited(api: APIClient, user, organization, monkeypatch):
    monkeypatch.setattr(organizations, "MOST_OWNED", 1)

    response = acting(api, user).post("/api/organizations", {"name": "Another"}, "json")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "too_many_organizations"


def test_owner_renames(api: APIClient, user: User, organization: Organization):
    response = acting(api, user).patch(
        f"/api/organizations/{organization.pk}", {"name": "New"}, "json"
    )

    assert response.json()["name"] == "New"
    entry = AuditEntry.objects.get(action="organization.renamed")
    assert (entry.before, entry.after) == ({"name": "Acme"}, {"name": "New"})


def test_members_see_each_other(api: APIClient, user, teammate, organization):
    response = acting(api, teammate).get(f"/api/organizations/{organization.pk}/members")

    assert [(member["email"], member["role"]) for member in response.json()["members"]] == [
        (user.email, "owner"),
        (teammate.email, "member"),
    ]


def test_owner_removes_a_member_and_everybody_is_told(
    api: APIClient, user, teammate, organization, told
):
    path = f"/api/organizations/{organization.pk}/members/{teammate.pk}"

    assert acting(api, user).delete(path).status_code == 204

    assert roles(organization) == {user.pk: OWNER}
    assert told == [{user.pk, teammate.pk}]
    entry = AuditEntry.objects.get(action="organization.member_removed")
    assert (entry.user, entry.actor) == (teammate, user)


def test_member_leaves(api: APIClient, user, teammate, organization, told):
    path = f"/api/organizations/{organization.pk}/members/{teammate.pk}"

    assert acting(api, teammate).delete(path).status_code == 204

    assert teammate.pk not in roles(organization)
    assert told == [{user.pk, teammate.pk}]
    assert AuditEntry.objects.filter(action="organization.member_left").exists()


def test_last_owner_cannot_leave(api: APIClient, user, teammate, organization, told):
    response = acting(api, user).delete(f"/api/organizations/{organization.pk}/members/{user.pk}")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "last_owner"
    assert roles(organization)[user.pk] == OWNER
    assert told == []


def test_last_owner_cannot_step_down(api: APIClient, user, teammate, organization):
    response = acting(api, user).patch(
        f"/api/organizations/{organization.pk}/members/{user.pk}", {"role": "member"}, "json"
    )

    assert response.status_code == 409
    assert roles(organization)[user.pk] == OWNER


def test_one_of_two_owners_may_leave(api: APIClient, user, teammate, organization):
    path = f"/api/organizations/{organization.pk}/members"
    acting(api, user).patch(f"{path}/{teammate.pk}", {"role": "owner"}, "json")

    assert api.delete(f"{path}/{user.pk}").status_code == 204

    assert roles(organization) == {teammate.pk: OWNER}


@pytest.mark.parametrize("body", [{}, {"role": "admin"}, {"role": None}, {"role": ""}, []])
def test_unknown_role_changes_nothing(api: APIClient, user, teammate, organization, body):
    response = acting(api, user).patch(
        f"/api/organizations/{organization.pk}/members/{teammate.pk}", body, "json"
    )

    assert response.status_code == 400
    assert roles(organization)[teammate.pk] == MEMBER


def test_ownership_is_handed_over(api: APIClient, user, teammate, organization):
    response = acting(api, user).post(
        f"/api/organizations/{organization.pk}/transfer", {"user_id": teammate.pk}, "json"
    )

    assert response.status_code == 200
    assert response.json()["role"] == "member"
    assert roles(organization) == {user.pk: MEMBER, teammate.pk: OWNER}


def test_ownership_handed_to_oneself_stays(api: APIClient, user, organization):
    acting(api, user).post(
        f"/api/organizations/{organization.pk}/transfer", {"user_id": user.pk}, "json"
    )

    assert roles(organization) == {user.pk: OWNER}


def test_ownership_is_not_handed_to_a_stranger(api: APIClient, user, stranger, organization):
    response = acting(api, user).post(
        f"/api/organizations/{organization.pk}/transfer", {"user_id": stranger.pk}, "json"
    )

    assert response.status_code == 404
    assert roles(organization) == {user.pk: OWNER}


def test_numbers_beyond_the_database_are_404(api: APIClient, user, organization):
    big = 10**30
    acting(api, user)

    assert api.get(f"/api/organizations/{big}").status_code == 404
    assert api.delete(f"/api/organizations/{organization.pk}/members/{big}").status_code == 404
    response = api.post(f"/api/organizations/{organization.pk}/transfer", {"user_id": big}, "json")
    assert response.status_code in {400, 404}


EVERYTHING = [
    ("get", ""),
    ("patch", ""),
    ("get", "/members"),
    ("patch", "/members/{owner}"),
    ("delete", "/members/{owner}"),
    ("post", "/transfer"),
    ("get", "/invitations"),
    ("post", "/invitations"),
    ("delete", "/invitations/1"),
]
OWNERS_ONLY = [act for act in EVERYTHING if act not in (("get", ""), ("get", "/members"))]
BODY = {"name": "Mine", "role": "member", "user_id": 1, "email": "x@example.com"}


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_stranger_finds_no_organization(api: APIClient, user, stranger, organization, method, path):
    url = f"/api/organizations/{organization.pk}" + path.format(owner=user.pk)

    response = getattr(acting(api, stranger), method)(url, BODY, "json")

    assert response.status_code == 404
    organization.refresh_from_db()
    assert organization.name == "Acme"
    assert roles(organization) == {user.pk: OWNER}
    assert not organization.invitations.exists()


@pytest.mark.parametrize(("method", "path"), OWNERS_ONLY)
def test_member_may_not_do_what_owners_do(
    api: APIClient, user, teammate, organization, method, path
):
    url = f"/api/organizations/{organization.pk}" + path.format(owner=user.pk)

    response = getattr(acting(api, teammate), method)(url, BODY, "json")

    assert response.status_code == 403
    organization.refresh_from_db()
    assert organization.name == "Acme"
    assert roles(organization) == {user.pk: OWNER, teammate.pk: MEMBER}
    assert not organization.invitations.exists()


@pytest.mark.parametrize(("method", "path"), [*EVERYTHING, ("get", "s"), ("post", "s")])
def test_nobody_is_refused(api: APIClient, user, organization, method, path):
    url = f"/api/organizations/{organization.pk}" + path.format(owner=user.pk)
    if path == "s":
        url = "/api/organizations"

    assert getattr(api, method)(url, BODY, "json").status_code == 401


def test_deleting_an_account_that_others_depend_on_is_refused(user, teammate, organization):
    with pytest.raises(LastOwner):
        delete_account(user_id=user.pk, cause=Cause.user(user.pk))

    user.refresh_from_db()
    assert user.deleted_at is None
    assert roles(organization) == {user.pk: OWNER, teammate.pk: MEMBER}


def test_deleting_a_members_account_tells_the_others(user, teammate, organization, told):
    delete_account(user_id=teammate.pk, cause=Cause.user(teammate.pk))

    assert roles(organization) == {user.pk: OWNER}
    assert {user.pk, teammate.pk} in told


def test_deleting_the_account_of_somebody_alone_leaves_an_empty_organization(user, organization):
    delete_account(user_id=user.pk, cause=Cause.user(user.pk))

    assert roles(organization) == {}


@pytest.mark.django_db(transaction=True)
def test_two_owners_leaving_at_once_leave_one(user, teammate, organization):
    change_role(
        organization=organization, user_id=teammate.pk, role=OWNER, cause=Cause.user(user.pk)
    )
    barrier = threading.Barrier(2)

    def leave(user_id: int) -> bool:
        barrier.wait(5)
        try:
            remove_member(organization=organization, user_id=user_id, cause=Cause.user(user_id))
        except LastOwner:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(leave, [user.pk, teammate.pk])) == [False, True]
    assert list(roles(organization).values()) == [OWNER]

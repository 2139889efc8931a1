"""Staff's pages for people, organizations, tokens and the audit trail."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.audit import record_act
from accounts.models import ApiToken, AuditEntry, Membership, Organization, User
from accounts.services import suspend_user
from accounts.signals import accounts_changed
from accounts.tokens import create_token
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory, MembershipFactory, OrganizationFactory, UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]
USERS = "/admin/accounts/user/"
ORGANIZATIONS = "/admin/accounts/organization/"


@pytest.fixture
def told():
    calls: list[set[int]] = []

    def listen(sender: object, user_ids: list[int], **kwargs: object) -> None:
        calls.append(set(user_ids))

    accounts_changed.connect(listen)
    yield calls
    accounts_changed.disconnect(listen)


@pytest.fixture
def helper_client(client: Client) -> Client:
    """Staff with the right to change users, and no more."""
    helper = User.objects.create_user("helper@example.com", "password", is_staff=True)
    helper.user_permissions.set(
        Permission.objects.filter(codename__in=["view_user", "change_user"])
    )
    client.force_login(helper)
    return client


def page(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def act(client: Client, name: str, *users: User, reason: str | None = None):
    data: dict[str, Any] = {"action": name, "_selected_action": [user.pk for user in users]}
    if reason is not None:
        data |= {"confirmed": "1", "reason": reason, "password": "staff-password"}
    return client.post(USERS, data, follow=True)


class TestUsers:
    @pytest.mark.parametrize("words", ["alice@", "Alice", "uid-alice", "cus_alice"])
    def test_found_by_whatever_staff_have(self, staff_client: Client, user, stranger, words):
        User.objects.filter(pk=user.pk).update(firebase_uid="uid-alice")
        CustomerFactory.create(user=user, stripe_customer_id="cus_alice")

        found = page(staff_client, f"{USERS}?q={words}")

        assert user.email in found
        assert stranger.email not in found

    @pytest.mark.parametrize("state", ["suspended", "off", "deleted"])
    def test_filtered_by_state(self, staff_client: Client, user, stranger, state):
        now = user.date_joined
        User.objects.filter(pk=user.pk).update(
            **{
                "suspended": {"suspended_at": now},
                "off": {"is_active": False},
                "deleted": {"deleted_at": now},
            }[state]
        )

        found = page(staff_client, f"{USERS}?state={state}")

        assert user.email in found
        assert stranger.email not in found

    def test_list_costs_the_same_for_many(
        self, staff_client: Client, django_assert_max_num_queries
    ):
        UserFactory.create_batch(30)

        with django_assert_max_num_queries(12):
            page(staff_client, USERS)

    def test_page_shows_no_password_hash(self, staff_client: Client, staff: User):
        shown = page(staff_client, f"{USERS}{staff.pk}/change/")

        assert staff.email in shown
        assert staff.password not in shown

    def test_new_staff_account_is_made(self, staff_client: Client, told):
        password = "a-long-Pass-phrase-7"
        response = staff_client.post(
            f"{USERS}add/",
            {
                "email": "New@Example.com",
                "password1": password,
                "password2": password,
                "usable_password": "true",
            },
        )

        assert response.status_code == 302
        made = User.objects.get(email="new@example.com")
        assert made.check_password(password)
        assert told == [{made.pk}]

    def test_switching_off_tells_the_apps_above(self, staff_client: Client, user: User, told):
        response = staff_client.post(
            f"{USERS}{user.pk}/change/", {"email": user.email, "display_name": "Alice"}
        )

        assert response.status_code == 302
        user.refresh_from_db()
        assert user.is_active is False
        assert told == [{user.pk}]

    def test_suspending_asks_for_a_reason_first(self, staff_client: Client, user: User):
        response = act(staff_client, "suspend", user)

        assert "Reason" in response.content.decode()
        user.refresh_from_db()
        assert user.suspended_at is None

    def test_suspending_needs_a_reason(self, staff_client: Client, user: User):
        act(staff_client, "suspend", user, reason=" ")

        user.refresh_from_db()
        assert user.suspended_at is None

    def test_suspending_does_it_for_that_reason(self, staff_client, staff, user, stranger):
        act(staff_client, "suspend", user, stranger, reason="abuse")

        entries = AuditEntry.objects.filter(action="user.suspended")
        assert {(entry.user, entry.actor, entry.reason) for entry in entries} == {
            (user, staff, "abuse"),
            (stranger, staff, "abuse"),
        }

    def test_reinstating(self, staff_client: Client, user: User):
        suspend_user(user_id=user.pk, reason="abuse", cause=Cause.system("test"))

        act(staff_client, "reinstate", user, reason="mistake")

        user.refresh_from_db()
        assert user.suspended_at is None

    def test_closing_erases(self, staff_client: Client, user: User):
        act(staff_client, "close", user, reason="asked by mail")

        user.refresh_from_db()
        assert user.deleted_at is not None
        assert "alice" not in user.email

    def test_closing_the_last_owner_is_refused_with_the_cause(self, staff_client, user, stranger):
        organization = OrganizationFactory.create()
        MembershipFactory.create(organization=organization, user=user, role="owner")
        MembershipFactory.create(organization=organization, user=stranger)

        response = act(staff_client, "close", user, reason="asked by mail")

        assert "needs an owner" in response.content.decode()
        user.refresh_from_db()
        assert user.deleted_at is None

    def test_rows_are_not_deleted(self, staff_client: Client, user: User):
        assert staff_client.post(f"{USERS}{user.pk}/delete/", {"post": "yes"}).status_code == 403
        assert User.objects.filter(pk=user.pk).exists()

    def test_helper_suspends_customers(self, helper_client: Client, user: User):
        act(helper_client, "suspend", user, reason="abuse")

        user.refresh_from_db()
        assert user.suspended_at is not None

    def test_helper_does_not_suspend_staff(self, helper_client: Client, staff: User):
        act(helper_client, "suspend", staff, reason="revenge")

        staff.refresh_from_db()
        assert staff.suspended_at is None

    def test_helper_does_not_close_accounts(self, helper_client: Client, user: User):
        act(helper_client, "close", user, reason="x")

        user.refresh_from_db()
        assert user.deleted_at is None

    def test_helper_gives_nobody_powers(self, helper_client: Client, user: User):
        helper_client.post(
            f"{USERS}{user.pk}/change/",
            {"email": user.email, "is_active": "on", "is_staff": "on", "is_superuser": "on"},
        )

        user.refresh_from_db()
        assert (user.is_staff, user.is_superuser) == (False, False)

    def test_helper_does_not_touch_staff(self, helper_client: Client, staff: User):
        before = staff.password
        new = "a-long-Pass-phrase-7"

        for url, data in [
            ("change/", {"email": "taken@example.com"}),
            ("password/", {"password1": new, "password2": new}),
        ]:
            assert helper_client.post(f"{USERS}{staff.pk}/{url}", data).status_code == 403

        staff.refresh_from_db()
        assert (staff.email, staff.password) == ("staff@example.com", before)

    def test_customer_sees_no_admin(self, client: Client, user: User):
        client.force_login(user)

        assert client.get(USERS).status_code in {302, 403}


class TestOrganizations:
    @pytest.fixture
    def organization(self, user: User) -> Organization:
        organization = OrganizationFactory.create(name="Acme")
        MembershipFactory.create(organization=organization, user=user, role="owner")
        return organization

    @pytest.mark.parametrize("words", ["Acme", "alice@", "cus_acme"])
    def test_found_by_name_member_or_stripe_id(self, staff_client, organization, words):
        OrganizationFactory.create(name="Elsewhere Ltd")
        CustomerFactory.create(user=None, organization=organization, stripe_customer_id="cus_acme")

        found = page(staff_client, f"{ORGANIZATIONS}?q={words}")

        assert "Acme" in found
        assert "Elsewhere Ltd" not in found

    def test_list_costs_the_same_for_many(
        self, staff_client: Client, organization, django_assert_max_num_queries
    ):
        MembershipFactory.create_batch(20, role="owner")

        with django_assert_max_num_queries(12):
            assert "Acme" in page(staff_client, ORGANIZATIONS)

    def save(self, client: Client, organization: Organization, *rows: dict[str, Any]):
        initial = sum(1 for row in rows if row.get("id"))
        data: dict[str, Any] = {
            "name": organization.name,
            "memberships-TOTAL_FORMS": len(rows),
            "memberships-INITIAL_FORMS": initial,
            "invitations-TOTAL_FORMS": 0,
            "invitations-INITIAL_FORMS": 0,
        }
        for index, row in enumerate(rows):
            for name, value in {"organization": organization.pk, **row}.items():
                data[f"memberships-{index}-{name}"] = value
        return client.post(f"{ORGANIZATIONS}{organization.pk}/change/", data)

    def row(self, organization: Organization, user: User, **changes: Any) -> dict[str, Any]:
        membership = Membership.objects.get(organization=organization, user=user)
        return {"id": membership.pk, "user": user.pk, "role": membership.role, **changes}

    def test_members_change_through_the_services(
        self, staff_client, organization, user, stranger, told
    ):
        response = self.save(
            staff_client,
            organization,
            self.row(organization, user),
            {"user": stranger.pk, "role": "member"},
        )

        assert response.status_code == 302
        assert Membership.objects.get(user=stranger).role == "member"
        assert told == [{user.pk, stranger.pk}]
        assert AuditEntry.objects.filter(action="organization.member_joined").exists()

    def test_a_membership_stays_its_persons(self, staff_client, organization, user, stranger):
        colleague = MembershipFactory.create(organization=organization).user

        self.save(
            staff_client,
            organization,
            self.row(organization, user),
            {**self.row(organization, colleague, role="owner"), "user": stranger.pk},
        )

        assert dict(organization.memberships.values_list("user_id", "role")) == {
            user.pk: "owner",
            colleague.pk: "owner",
        }

    def test_ownership_is_handed_over_in_one_go(self, staff_client, organization, user, stranger):
        MembershipFactory.create(organization=organization, user=stranger)

        self.save(
            staff_client,
            organization,
            self.row(organization, user, role="member"),
            self.row(organization, stranger, role="owner"),
        )

        assert dict(organization.memberships.values_list("user_id", "role")) == {
            user.pk: "member",
            stranger.pk: "owner",
        }

    def test_organization_keeps_an_owner(self, staff_client, organization, user, stranger, told):
        MembershipFactory.create(organization=organization, user=stranger)

        response = self.save(
            staff_client,
            organization,
            self.row(organization, user, DELETE="on"),
            self.row(organization, stranger),
        )

        assert response.status_code == 200
        assert "needs an owner" in response.content.decode()
        assert organization.memberships.count() == 2
        assert told == []


class TestRecords:
    def test_audit_trail_is_read_only(self, staff_client: Client, user: User):
        entry = record_act(
            action="test.done", cause=Cause.system("test"), user=user, after={"plan": "pro"}
        )
        base = "/admin/accounts/auditentry/"

        assert "test.done" in page(staff_client, f"{base}?q=alice@")
        assert "pro" in page(staff_client, f"{base}{entry.pk}/change/")
        for url in (f"{base}{entry.pk}/change/", f"{base}{entry.pk}/delete/", f"{base}add/"):
            assert staff_client.post(url, {"action": "forged"}).status_code == 403
        entry.refresh_from_db()
        assert entry.action == "test.done"

    def test_audit_list_costs_the_same_for_many(
        self, staff_client: Client, staff, user, django_assert_max_num_queries
    ):
        for _ in range(20):
            record_act(action="test.done", cause=Cause.staff(staff.pk), user=user)

        with django_assert_max_num_queries(12):
            page(staff_client, "/admin/accounts/auditentry/")

    @pytest.mark.parametrize(("password", "is_staff"), [("", False), ("staff-password", True)])
    def test_making_somebody_a_colleague_takes_the_password_once_more(
        self, staff_client: Client, user: User, password: str, is_staff: bool
    ):
        form = {"email": user.email, "display_name": "Alice", "is_active": "on", "is_staff": "on"}
        staff_client.post(f"{USERS}{user.pk}/change/", {**form, "password_again": password})

        user.refresh_from_db()
        assert user.is_staff is is_staff

    def test_another_change_of_a_person_does_not(self, staff_client: Client, user: User):
        form = {"email": user.email, "display_name": "Alicia", "is_active": "on"}
        staff_client.post(f"{USERS}{user.pk}/change/", form)

        user.refresh_from_db()
        assert user.display_name == "Alicia"

    def test_token_is_revoked_and_never_shown(self, staff_client: Client, user: User):
        token, value = create_token(
            user=user, name="ci", scopes=["chat"], expires_at=None, cause=Cause.user(user.pk)
        )
        base = "/admin/accounts/apitoken/"

        shown = page(staff_client, base) + page(staff_client, f"{base}{token.pk}/change/")
        staff_client.post(base, {"action": "revoke", "_selected_action": [token.pk]})

        assert "ci" in shown
        assert value not in shown
        assert token.token_hash not in shown
        assert ApiToken.objects.get(pk=token.pk).revoked_at is not None

"""Who closes an account is afterwards in no row of ours, by address, name or where they were."""

from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import login
from django.db import connection
from django.test import Client, RequestFactory

from accounts.invitations import invite
from accounts.models import AuditEntry, Invitation, User
from accounts.organizations import add_member
from accounts.services import delete_account, suspend_user
from accounts.sessions import SessionStore
from accounts.tokens import create_token
from llmkeys.models import KeyEvent, SpendBudget, VirtualKey
from llmkeys.services import block_key
from llmkeys.spend_budgets import set_budget
from plans.customers import Payer, link
from plans.models import Plan
from tesslate.lib.cause import Cause
from tesslate.staffroom.models import CustomerNote
from tests.factories import CustomerFactory, MembershipFactory, OrganizationFactory, UserFactory
from tests.llmkeys.conftest import entitle, sync
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db
CAUSE = Cause.system("test")

_TEXTS = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public'
        AND data_type IN ('text', 'character varying', 'json', 'jsonb', 'ARRAY', 'inet')
"""


def everywhere(text: str) -> list[str]:
    """The columns of the whole database that hold it."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute(_TEXTS)
        for table, column in cursor.fetchall():
            cursor.execute(
                f'SELECT count(*) FROM "{table}" WHERE "{column}"::text ILIKE %s',  # noqa: S608
                [f"%{text}%"],
            )
            if cursor.fetchone()[0]:
                found.append(f"{table}.{column}")
    return found


def sign_in(user: User) -> None:
    request = RequestFactory(REMOTE_ADDR="203.0.113.77", HTTP_USER_AGENT="Zeldas").get("/")
    request.session = SessionStore()
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session.save()


def edited_by_staff(staff_client: Client, user: User) -> None:
    """Their address, and who is in their organization."""
    organization = OrganizationFactory.create()
    owner = MembershipFactory.create(
        organization=organization, user=UserFactory.create(), role="owner"
    )
    person = {"email": "zelda@example.net", "display_name": user.display_name, "is_active": "on"}
    rows = {
        "name": organization.name,
        "memberships-TOTAL_FORMS": 2,
        "memberships-INITIAL_FORMS": 1,
        "memberships-0-id": owner.pk,
        "memberships-0-organization": organization.pk,
        "memberships-0-user": owner.user_id,
        "memberships-0-role": "owner",
        "memberships-1-organization": organization.pk,
        "memberships-1-user": user.pk,
        "memberships-1-role": "member",
        "invitations-TOTAL_FORMS": 0,
        "invitations-INITIAL_FORMS": 0,
    }
    for path, form in (
        (f"user/{user.pk}", person),
        (f"organization/{organization.pk}", rows),
    ):
        response = staff_client.post(f"/admin/accounts/{path}/change/", form)
        assert response.status_code == 302, response.content
    user.refresh_from_db()


def live(user: User, staff: User, staff_client: Client, free: Plan) -> None:
    """All that writes a person's address, name or whereabouts anywhere."""
    entitle(user, free)
    sync()
    sign_in(user)
    edited_by_staff(staff_client, user)
    sync()
    owner = UserFactory.create()
    organization = OrganizationFactory.create()
    add_member(organization=organization, user=owner, role="owner", cause=CAUSE)
    invite(organization=organization, email=user.email, role="member", inviter=owner)
    create_token(user=user, name="Zelda’s laptop", scopes=["chat"], expires_at=None, cause=CAUSE)
    CustomerFactory.create(user=user, stripe_customer_id="cus_1")
    for payer in (Payer(user_id=owner.pk), Payer(user_id=user.pk)):
        link(payer, "cus_1", cause=CAUSE)
    link(Payer(user_id=user.pk), "cus_2", cause=CAUSE)
    set_budget(
        user=user,
        amount=Decimal(5),
        is_hard=False,
        webhook_url="https://zelda.example.com/hook",
        cause=CAUSE,
    )
    block_key(key=VirtualKey.live.get(user=user), reason="Zelda asked for it", cause=CAUSE)
    CustomerNote.objects.create(user=user, author=staff, text="Zelda Zq phoned from home")
    suspend_user(user_id=user.pk, reason="zelda@example.net charged back", cause=CAUSE)


def test_a_closed_account_is_nowhere_in_the_database(
    standin: StandIn, free: Plan, staff: User, staff_client: Client
) -> None:
    user = UserFactory.create(email="zelda@example.org", display_name="Zelda")
    live(user, staff, staff_client, free)
    assert len(everywhere("zelda@")) > 5

    delete_account(user_id=user.pk, cause=CAUSE, reason="asked as zelda@example.org")
    sync()

    left = {text: everywhere(text) for text in ("zelda", "203.0.113.77")}
    # Why staff did it stays as they wrote it, without the address and the name.
    assert left == {"zelda": [], "203.0.113.77": []}
    assert AuditEntry.objects.get(action="user.suspended").reason == "[erased] charged back"
    assert not SpendBudget.objects.exists()
    assert Invitation.objects.get().revoked_at is not None


def test_others_with_a_like_name_keep_theirs(free_plan: Plan) -> None:
    ann, anna = (
        UserFactory.create(email=f"{name}@example.org", display_name=name)
        for name in ("ann", "anna")
    )
    for each in (ann, anna):
        suspend_user(user_id=each.pk, reason="annual report by ann and anna", cause=CAUSE)

    delete_account(user_id=ann.pk, cause=CAUSE)

    reasons = AuditEntry.objects.filter(action="user.suspended").order_by("pk")
    assert list(reasons.values_list("reason", flat=True)) == [
        "annual report by [erased] and anna",
        "annual report by ann and anna",
    ]


def test_the_trail_of_keys_that_was_written_before_is_named_by_number(key: VirtualKey) -> None:
    said: dict[str, Any] = {"email": "zelda@example.org", "label": "Zelda’s", "user": 7}
    event = KeyEvent.objects.create(
        key=key, action="updated", sent={"metadata": said, "rpm": 1}, received={"metadata": None}
    )
    migration = import_module("llmkeys.migrations.0010_trail_by_number")

    with connection.schema_editor(atomic=False) as editor:
        migration.name_by_number(apps, editor)

    event.refresh_from_db()
    assert event.sent == {"metadata": {"user": 7}, "rpm": 1}
    assert event.received == {"metadata": None}

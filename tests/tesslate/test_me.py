"""GET /api/me: one answer about one's own access, and nobody else's."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import suspend_user
from plans.models import Plan
from tesslate.lib.cause import Cause
from tests.factories import MembershipFactory, OrganizationFactory

pytestmark = pytest.mark.django_db


def about(api: APIClient, user: User) -> dict[str, Any]:
    api.force_authenticate(user)
    response = api.get("/api/me")
    assert response.status_code == 200
    me: dict[str, Any] = response.json()
    return me


def test_newcomer_sees_the_default_plan(api: APIClient, user: User, free_plan: Plan):
    me = about(api, user)

    assert me["user"] == {"id": user.pk, "email": user.email, "name": "Alice"}
    assert me["organizations"] == []
    assert me["suspended_at"] is None
    entitlement = me["entitlement"]
    assert entitlement["plan"]["code"] == "free"
    assert (entitlement["plan"]["rpm"], entitlement["plan"]["tpm"]) == (20, 20_000)
    assert entitlement["source"] == "default"
    assert entitlement["limit_percent"] == 100
    assert entitlement["period_start"] < entitlement["period_end"]
    assert entitlement["reasons"]


def test_key_is_told_by_its_state_alone(api: APIClient, user: User, free_plan: Plan):
    key = about(api, user)["key"]

    assert set(key) == {"state", "last_four", "in_step"}
    assert key["state"] in {"none", "pending"}


def test_usage_starts_at_nothing(api: APIClient, user: User, free_plan: Plan):
    usage = about(api, user)["usage"]

    assert (usage["requests"], usage["total_tokens"]) == (0, 0)
    assert float(usage["cost"]) == 0


def test_organizations_are_ones_own(api: APIClient, user: User, stranger: User, free_plan: Plan):
    mine, theirs = OrganizationFactory.create_batch(2)
    MembershipFactory.create(organization=mine, user=user, role="owner")
    MembershipFactory.create(organization=theirs, user=stranger)

    assert about(api, user)["organizations"] == [
        {"id": mine.pk, "name": mine.name, "role": "owner"}
    ]


def test_suspended_user_sees_it(api: APIClient, user: User, free_plan: Plan):
    suspend_user(user_id=user.pk, reason="secret reason", cause=Cause.system("test"))
    user.refresh_from_db()

    me = about(api, user)

    assert me["suspended_at"] is not None
    assert "secret reason" not in str(me)


def test_nobody_is_refused(api: APIClient):
    assert api.get("/api/me").status_code == 401

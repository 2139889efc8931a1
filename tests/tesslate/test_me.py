"""GET /api/me: one answer about one's own access, and nobody else's."""

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.serializers.json import DjangoJSONEncoder
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import BrowserSession, User
from accounts.services import suspend_user
from accounts.tokens import create_token
from chatproxy.content import store_content
from llmkeys.models import SpendBudget
from llmkeys.spend_budgets import set_budget
from plans.models import Plan
from tesslate import export as export_module
from tesslate.export import export_of
from tesslate.lib.cause import Cause
from tests.factories import (
    CustomerFactory,
    MembershipFactory,
    OrganizationFactory,
    SubscriptionFactory,
)

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

    [shown] = about(api, user)["organizations"]

    assert (shown["id"], shown["name"], shown["role"]) == (mine.pk, mine.name, "owner")


def test_suspended_user_sees_it(api: APIClient, user: User, free_plan: Plan):
    suspend_user(user_id=user.pk, reason="secret reason", cause=Cause.system("test"))
    user.refresh_from_db()

    me = about(api, user)

    assert me["suspended_at"] is not None
    assert "secret reason" not in str(me)


@pytest.mark.parametrize(("method", "path"), [("get", ""), ("delete", ""), ("get", "/export")])
def test_nobody_is_refused(api: APIClient, method, path):
    assert getattr(api, method)(f"/api/me{path}").status_code == 401


def test_leaving_erases_the_account_and_ends_the_session(client, user: User, free_plan: Plan):
    client.force_login(user)

    response = client.delete(
        "/api/me", {"confirm": "Alice@Example.com "}, content_type="application/json"
    )

    assert response.status_code == 204
    user.refresh_from_db()
    assert user.deleted_at is not None
    assert client.get("/api/me").status_code == 401


@pytest.mark.parametrize("body", [{}, {"confirm": ""}, {"confirm": "mallory@example.com"}, []])
def test_leaving_by_accident_is_refused(api: APIClient, user: User, body):
    api.force_authenticate(user)

    response = api.delete("/api/me", body, "json")

    assert response.status_code == 400
    user.refresh_from_db()
    assert user.deleted_at is None


def test_owner_on_whom_others_depend_hands_over_first(
    api: APIClient, user: User, stranger: User, free_plan: Plan
):
    organization = OrganizationFactory.create()
    MembershipFactory.create(organization=organization, user=user, role="owner")
    MembershipFactory.create(organization=organization, user=stranger)
    api.force_authenticate(user)

    response = api.delete("/api/me", {"confirm": user.email}, "json")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "last_owner"
    user.refresh_from_db()
    assert user.deleted_at is None


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "unpaid", "a new word"])
def test_a_subscription_that_would_go_on_charging_is_canceled_first(
    api: APIClient, user: User, free_plan: Plan, status
):
    SubscriptionFactory.create(customer=CustomerFactory.create(user=user), status=status)
    api.force_authenticate(user)

    response = api.delete("/api/me", {"confirm": user.email}, "json")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "subscription_running"
    user.refresh_from_db()
    assert user.deleted_at is None


def test_the_subscription_of_an_organization_is_not_left_to_nobody(
    api: APIClient, user: User, stranger: User, free_plan: Plan
):
    organization = OrganizationFactory.create()
    MembershipFactory.create(organization=organization, user=user, role="owner")
    SubscriptionFactory.create(
        customer=CustomerFactory.create(user=None, organization=organization)
    )
    api.force_authenticate(user)
    body = {"confirm": user.email}

    assert api.delete("/api/me", body, "json").status_code == 409
    MembershipFactory.create(organization=organization, user=stranger, role="owner")
    assert api.delete("/api/me", body, "json").status_code == 204


@pytest.mark.parametrize("columns", [{"status": "canceled"}, {"cancel_at_period_end": True}])
def test_a_subscription_that_ends_keeps_nobody(
    api: APIClient, user: User, free_plan: Plan, columns
):
    SubscriptionFactory.create(customer=CustomerFactory.create(user=user), **columns)
    api.force_authenticate(user)

    assert api.delete("/api/me", {"confirm": user.email}, "json").status_code == 204


def test_export_holds_ones_own_data_and_no_secret(
    api: APIClient, user: User, stranger: User, free_plan: Plan, empty_cache
):
    mine, theirs = OrganizationFactory.create_batch(2)
    MembershipFactory.create(organization=mine, user=user)
    MembershipFactory.create(organization=theirs, user=stranger)
    SubscriptionFactory.create(customer__user=user, stripe_subscription_id="sub_mine")
    SubscriptionFactory.create(customer__user=stranger, stripe_subscription_id="sub_theirs")
    cause = Cause.user(user.pk)
    token, value = create_token(
        user=user, name="laptop", scopes=["chat"], expires_at=None, cause=cause
    )
    api.force_authenticate(user)

    response = api.get("/api/me/export")

    assert response.headers["Content-Disposition"].startswith("attachment;")
    export = response.json()
    assert export["account"]["email"] == user.email
    assert [organization["name"] for organization in export["organizations"]] == [mine.name]
    assert [sub["stripe_subscription_id"] for sub in export["subscriptions"]] == ["sub_mine"]
    assert export["api_tokens"][0]["name"] == "laptop"
    assert "token.created" in {entry["action"] for entry in export["history"]}
    for secret in (value, token.token_hash, user.password, stranger.email, theirs.name):
        assert secret not in response.content.decode()


def exported(user: User) -> str:
    return json.dumps(export_of(user), cls=DjangoJSONEncoder)


def test_export_holds_conversations_sessions_and_the_budget(
    client: Client, user: User, stranger: User, free_plan: Plan, settings: Any
):
    client.force_login(user)
    BrowserSession.objects.update(address="203.0.113.77")
    set_budget(
        user=user,
        amount=Decimal(5),
        is_hard=False,
        webhook_url="https://hook.example.com/",
        cause=Cause.user(user.pk),
    )
    for each, text in ((user, "my recipe"), (stranger, "their recipe")):
        store_content(
            request_id=str(uuid.uuid4()),
            started_ms=1_790_000_000_000,
            user_id=each.pk,
            messages=[{"role": "user", "content": text}],
            answer=b"",
            is_stream=False,
        )

    export = exported(user)

    assert all(text in export for text in ("my recipe", "203.0.113.77", "hook.example.com"))
    assert "their recipe" not in export
    assert SpendBudget.objects.get().webhook_secret not in export
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert export_of(user)["conversations"][0]["messages"] is None


def test_export_tells_how_many_conversations_it_does_not_hold(
    user: User, free_plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    kept = [{"answer": "x" * 60}, {"answer": "y" * 60}]
    monkeypatch.setattr(export_module, "conversations_of", lambda user: iter(kept))
    monkeypatch.setattr(export_module, "MOST_CONVERSED", 100)

    export = export_of(user)

    assert (export["conversations"], export["conversations_omitted"]) == (kept[:1], 1)


def test_staffs_own_export_holds_nothing_of_their_customers(
    user: User, staff: User, free_plan: Plan
):
    suspend_user(user_id=user.pk, reason="Alice charged back", cause=Cause.staff(staff.pk))

    assert "Alice" not in exported(staff)
    assert "Alice charged back" in exported(user)

"""Role and action: the table in tesslate.staffroom.roles, seen from the outside."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.test import RequestFactory
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User
from plans.models import PlanGrant
from tesslate.staffroom.customer_actions import ACTIONS
from tesslate.staffroom.roles import ROLES, seed_roles

EVERY_ROLE = ("support", "billing", "operator", "auditor", "admin")
KEY_WORK = {"resync", "rotate", "reset-limits", "block", "unblock", "revoke"}
USER_WORK = {"suspend", "reinstate", "sign-out"}
MAY_DO = {
    "support": KEY_WORK,
    "billing": {"grant", "replay"},
    "operator": KEY_WORK | USER_WORK | {"replay"},
    "auditor": set(),
    "admin": set(ACTIONS),
}
# Pages of our own, and who may open them.
PAGES = {
    "/admin/": set(EVERY_ROLE),
    "/admin/plan-matrix": set(EVERY_ROLE),
    "/admin/security": set(EVERY_ROLE),
    "/admin/map-price/price_1": {"billing", "operator", "admin"},
}


@pytest.mark.parametrize("role", EVERY_ROLE)
@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_each_action_is_for_its_roles_alone(colleague, user, free_plan, role, name):
    if name == "reinstate":
        User.objects.filter(pk=user.pk).update(suspended_at=user.date_joined)
    if name == "remove-factor":
        User.objects.filter(pk=user.pk).update(is_staff=True)
        TOTPDevice.objects.create(user=user, confirmed=True)
    response = colleague(role).get(f"/admin/customers/{user.pk}/do/{name}")
    assert response.status_code == (200 if name in MAY_DO[role] else 403)


@pytest.mark.parametrize("role", EVERY_ROLE)
@pytest.mark.parametrize("path", sorted(PAGES))
def test_each_page_is_for_its_roles_alone(colleague, free_plan, role, path):
    assert colleague(role).get(path).status_code == (200 if role in PAGES[path] else 403)


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_customer_pages_offer_what_the_role_may_do(colleague, user, free_plan, role):
    page = colleague(role).get(f"/admin/customers/{user.pk}")
    offered = {action.name for action in page.context["actions"]}
    assert offered == {name for name in MAY_DO[role] if ACTIONS[name].is_for(user)}


def test_a_refused_action_changes_nothing(colleague, user, free_plan):
    data = {"plan": free_plan.pk, "days": 3, "reason": "please"}
    response = colleague("support").post(f"/admin/customers/{user.pk}/do/grant", data)
    assert response.status_code == 403
    assert not PlanGrant.objects.exists()


def test_auditors_see_every_list_and_change_none(colleague, free_plan):
    client = colleague("auditor")
    request = RequestFactory().get("/")
    request.user = User.objects.get(email="auditor@example.com")
    for model, model_admin in admin.site._registry.items():
        label = model._meta.app_label
        if label not in {"accounts", "plans", "llmkeys", "chatproxy", "staffroom"}:
            continue
        assert not model_admin.has_add_permission(request), model
        assert not model_admin.has_delete_permission(request), model
        assert not model_admin.has_change_permission(request), model
        address = f"/admin/{label}/{model._meta.model_name}/"
        assert client.get(address).status_code == 200, model


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_nobody_reads_customers_conversations(colleague, role):
    colleague(role)
    user = User.objects.get(email=f"{role}@example.com")
    assert not user.has_perm("chatproxy.view_chatcontent")


@pytest.mark.parametrize("role", sorted(set(EVERY_ROLE) - {"admin"}))
def test_only_admins_change_who_is_staff(colleague, role):
    colleague(role)
    user = User.objects.get(email=f"{role}@example.com")
    assert not user.has_perm("accounts.add_user")
    assert not user.has_perm("accounts.delete_user")
    assert not user.has_perm("auth.change_group")


def test_every_permission_that_the_table_names_exists(db):
    existing = {
        f"{app}.{codename}"
        for app, codename in Permission.objects.values_list("content_type__app_label", "codename")
    }
    for role, permissions in ROLES.items():
        assert permissions <= existing, role


def test_seeding_sets_a_role_back_and_leaves_other_groups_alone(db):
    support = Group.objects.get(name="support")
    support.permissions.clear()
    other = Group.objects.create(name="night shift")
    seed_roles()
    assert support.permissions.count() == len(ROLES["support"])
    assert other.permissions.count() == 0


def test_staff_without_a_role_get_nothing(client, user, free_plan):
    nobody = User.objects.create_user("new@example.com", "x", is_staff=True)
    client.force_login(nobody)
    assert client.get(f"/admin/customers/{user.pk}").status_code == 403
    assert client.get("/admin/").context["items"] == []
    assert client.get("/admin/").context["groups"] == []


def test_customers_get_nothing(client, user):
    client.force_login(user)
    for path in ("/admin/", f"/admin/customers/{user.pk}", "/admin/plan-matrix"):
        assert client.get(path).status_code == 302

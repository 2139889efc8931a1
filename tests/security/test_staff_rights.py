"""Staff's rights over the API are those of their roles, and need the second factor."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice
from rest_framework.test import APIClient

from accounts.models import User
from tesslate.staffroom import two_factor
from tests.staffroom.test_two_factor import code

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]


def act(client: Client, user: User, action: str = "resync") -> Any:
    return client.post(
        "/admin/keys", {"action": action, "user": user.email}, content_type="application/json"
    )


@pytest.mark.parametrize(
    ("role", "status"),
    [("support", 200), ("operator", 200), ("admin", 200), ("billing", 403), ("auditor", 403)],
)
def test_only_roles_that_may_change_keys_act_on_them(
    user: User, colleague: Callable[[str], Client], role: str, status: int
):
    assert act(colleague(role), user).status_code == status


@pytest.mark.parametrize("role", ["support", "billing", "operator", "auditor", "admin"])
def test_every_role_may_look_at_keys(user: User, colleague: Callable[[str], Client], role: str):
    assert act(colleague(role), user, "show").status_code == 200


def test_staff_without_a_role_may_do_nothing(user: User):
    nobody = User.objects.create_user("new@example.com", is_staff=True)
    client = Client()
    client.force_login(nobody)

    assert act(client, user, "show").status_code == 403
    assert client.get(f"/usage/{user.pk}").status_code == 404


@pytest.fixture
def device(staff: User) -> TOTPDevice:
    device = two_factor.pending_device(staff)
    device.confirmed = True
    device.save()
    return device


def code_of(response: Any) -> str:
    return str(response.json()["error"]["code"])


def test_who_has_a_device_needs_a_verified_session(
    staff_client: Client, device: TOTPDevice, user: User
):
    assert code_of(act(staff_client, user)) == "second_factor_required"
    assert code_of(staff_client.get(f"/usage/{user.pk}")) == "second_factor_required"

    staff_client.post("/admin/two-factor/verify", {"token": code(device), "next": "/admin/"})

    assert act(staff_client, user).status_code == 200
    assert staff_client.get(f"/usage/{user.pk}").status_code == 200


def test_where_it_is_required_a_bearer_token_is_not_enough(
    api: APIClient, staff: User, user: User, settings: Any
):
    settings.STAFF_TWO_FACTOR_REQUIRED = True
    api.force_authenticate(staff)

    response = api.post("/admin/keys", {"action": "show", "user": user.email}, format="json")

    assert response.status_code == 403
    assert code_of(response) == "second_factor_required"

"""Staff's pages about keys: each opens, each action works, and none shows a secret."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from llmkeys import audit, switches
from llmkeys.models import GatewayState, KillSwitch, PlanAtGateway, VirtualKey
from llmkeys.spec import fingerprint
from plans.models import Plan
from tesslate.lib.crypto import decrypt
from tests.llmkeys.conftest import CAUSE, sync
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db

PASSWORD = "staff-password"
PAGES = [
    "virtualkey",
    "planatgateway",
    "keyevent",
    "gatewaystate",
    "killswitch",
    "auditrun",
    "auditfinding",
    "trustedkey",
    "rollout",
]


@pytest.fixture
def everything(standin: StandIn, key: VirtualKey, user: User) -> VirtualKey:
    GatewayState.objects.get_or_create(url="http://gateway.test")
    switches.pull(scope="user", target=user, reason="a test", cause=CAUSE)
    sync()
    standin.edit(key, max_budget=99.0)
    audit.run_audit(repair=False)
    return key


@pytest.mark.parametrize("page", PAGES)
def test_lists_open_and_show_no_secret(
    everything: VirtualKey, staff_client: Client, page: str
) -> None:
    answer = staff_client.get(reverse(f"admin:llmkeys_{page}_changelist"), {"q": "a"})
    assert answer.status_code == 200
    assert decrypt(everything.secret) not in answer.content.decode()


@pytest.mark.parametrize("which", ["yes", "no", "stuck", "alarm"])
def test_keys_are_filtered_by_how_they_are_doing(
    everything: VirtualKey, staff_client: Client, which: str
) -> None:
    url = reverse("admin:llmkeys_virtualkey_changelist")
    assert staff_client.get(url, {"in_step": which}).status_code == 200


def test_a_key_shows_desired_and_observed_and_its_trail(
    everything: VirtualKey, staff_client: Client
) -> None:
    url = reverse("admin:llmkeys_virtualkey_change", args=[everything.pk])
    page = staff_client.get(url).content.decode()
    assert "desired" in page
    assert "tesslate-free" in page
    everything.refresh_from_db()
    same = fingerprint(everything.desired)[:12]
    assert f"{same} · {same}" in page
    assert everything.last_four in page
    assert everything.secret not in page
    assert decrypt(everything.secret) not in page


def test_a_plan_at_the_gateway_shows_both_sides(
    everything: VirtualKey, staff_client: Client
) -> None:
    shared = PlanAtGateway.objects.get()
    url = reverse("admin:llmkeys_planatgateway_change", args=[shared.pk])
    assert "rpm_limit" in staff_client.get(url).content.decode()


@pytest.mark.parametrize(
    ("action", "lifecycle"),
    [
        ("rotate", "retiring"),
        ("revoke", "retired"),
        ("block", "active"),
        ("unblock", "active"),
        ("resync", "active"),
        ("reset_spend", "active"),
        ("undo_rotation", "active"),
    ],
)
def test_actions_act(key: VirtualKey, staff_client: Client, action: str, lifecycle: str) -> None:
    url = reverse("admin:llmkeys_virtualkey_changelist")
    data = {
        "action": action,
        "_selected_action": [key.pk],
        "confirmed": "1",
        "reason": "A test",
        "password": "staff-password",
    }
    answer = staff_client.post(url, data, follow=True)
    assert answer.status_code == 200
    key.refresh_from_db()
    assert key.lifecycle == lifecycle
    assert (key.blocked_at is not None) is (action == "block")


def test_keys_cannot_be_edited_added_or_deleted_by_hand(
    key: VirtualKey, staff_client: Client
) -> None:
    assert staff_client.get(reverse("admin:llmkeys_virtualkey_add")).status_code == 403
    delete = reverse("admin:llmkeys_virtualkey_delete", args=[key.pk])
    assert staff_client.post(delete, {"post": "yes"}).status_code == 403
    assert VirtualKey.objects.filter(pk=key.pk).exists()


def test_customers_have_no_business_there(key: VirtualKey, client: Client, user: User) -> None:
    client.force_login(user)
    url = reverse("admin:llmkeys_virtualkey_changelist")
    assert client.get(url).status_code in (302, 403, 404)


def test_a_switch_must_name_what_its_scope_says(
    standin: StandIn, staff_client: Client, free: Plan
) -> None:
    form = {"scope": "model", "plan": free.pk, "reason": "drill", "password_again": PASSWORD}
    answer = staff_client.post("/admin/llmkeys/killswitch/add/", form)
    assert "Name what the scope says, and nothing else." in answer.content.decode()
    assert not KillSwitch.objects.exists()


@pytest.mark.parametrize(("password", "switches"), [("", 0), ("guess", 0), (PASSWORD, 1)])
def test_pulling_a_switch_takes_the_password_once_more(
    standin: StandIn, staff_client: Client, free: Plan, password: str, switches: int
) -> None:
    form = {"scope": "plan", "plan": free.pk, "reason": "drill", "password_again": password}
    staff_client.post("/admin/llmkeys/killswitch/add/", form)
    assert KillSwitch.objects.count() == switches


def test_access_is_explained_link_by_link(
    key: VirtualKey, staff_client: Client, user: User, pro: Plan
) -> None:
    address = f"/admin/customers/{user.pk}/access"
    assert "Choose a model" in staff_client.get(address).content.decode()

    allowed = staff_client.get(address, {"model": "small"})
    assert allowed.context["allowed"] is True
    assert "the key may call the model" in allowed.content.decode()

    refused = staff_client.get(address, {"model": "large"})
    assert refused.context["allowed"] is False
    assert "<strong>The plan does not include the model.</strong>" in refused.content.decode()


def test_access_is_not_explained_to_staff_without_a_role(key: VirtualKey, user: User) -> None:
    newcomer = User.objects.create_user("new@example.com", "newcomer-password", is_staff=True)
    client = Client()
    client.force_login(newcomer)
    assert client.get(f"/admin/customers/{user.pk}/access").status_code == 403

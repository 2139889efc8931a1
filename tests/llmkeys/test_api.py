"""Keys over HTTP. No answer, to anybody, holds a key's value."""

import pytest
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from llmkeys.models import VirtualKey
from plans.models import Plan
from tesslate.lib.crypto import decrypt
from tests.llmkeys.conftest import entitle, only_key, sync
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(api: APIClient, user: User) -> APIClient:
    api.force_authenticate(user)
    return api


@pytest.fixture
def as_staff(staff: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(staff)
    return client


def test_R12_no_answer_ever_holds_the_value(
    standin: StandIn, key: VirtualKey, signed_in: APIClient, as_staff: APIClient, user: User
) -> None:
    secret = decrypt(key.secret)
    answers = [
        signed_in.get("/api/keys"),
        signed_in.post("/api/keys/rotate", {}, format="json"),
        as_staff.post("/admin/keys", {"action": "show", "user": user.email}, format="json"),
    ]
    for answer in answers:
        assert answer.status_code in (200, 202)
        assert secret not in answer.content.decode()
        assert "sk-" not in answer.content.decode()


def test_own_keys_are_listed_masked(key: VirtualKey, signed_in: APIClient) -> None:
    (shown,) = signed_in.get("/api/keys").json()
    assert shown["last_four"] == key.last_four
    assert shown["state"] == "ready"


def test_strangers_keys_are_not_listed(key: VirtualKey, stranger: User) -> None:
    api = APIClient()
    api.force_authenticate(stranger)
    assert api.get("/api/keys").json() == []


def test_nobody_unknown_may_look(api: APIClient) -> None:
    assert api.get("/api/keys").status_code == 401
    assert api.post("/api/keys/rotate").status_code == 401
    assert api.post("/admin/keys", {"action": "show", "user": "1"}).status_code == 401


def test_rotating_an_own_key(
    standin: StandIn, key: VirtualKey, signed_in: APIClient, user: User
) -> None:
    answer = signed_in.post("/api/keys/rotate", {}, format="json")
    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"
    sync()
    states = {shown["state"] for shown in signed_in.get("/api/keys").json()}
    assert states == {"ready", "retiring"}


def test_stranger_cannot_rotate_a_key(key: VirtualKey, stranger: User) -> None:
    api = APIClient()
    api.force_authenticate(stranger)
    answer = api.post("/api/keys/rotate", {"key": key.pk}, format="json")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "key_not_ready"
    assert VirtualKey.objects.count() == 1


def test_customers_may_not_act_as_staff(key: VirtualKey, signed_in: APIClient, user: User) -> None:
    answer = signed_in.post("/admin/keys", {"action": "block", "user": user.email}, format="json")
    assert answer.status_code == 403
    key.refresh_from_db()
    assert key.blocked_at is None


@pytest.mark.parametrize("name", ["²", "9" * 5000, "9" * 18, "nobody@example.com"])
def test_nobody_is_found_by_a_strange_number(as_staff: APIClient, name: str) -> None:
    answer = as_staff.post("/admin/keys", {"action": "show", "user": name}, format="json")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "user")


@pytest.mark.parametrize(
    ("action", "state"),
    [("block", "blocked"), ("resync", "ready"), ("reset_limits", "ready"), ("retire", "removed")],
)
def test_staff_act_on_a_key_and_leave_an_entry(
    standin: StandIn, key: VirtualKey, as_staff: APIClient, user: User, action: str, state: str
) -> None:
    body = {"action": action, "user": user.email, "reason": "ticket 12"}
    assert as_staff.post("/admin/keys", body, format="json").status_code == 200
    sync()
    shown = as_staff.post("/admin/keys", {"action": "show", "user": str(user.pk)}, format="json")
    assert shown.json()["keys"][0]["state"] == state
    if action != "resync":
        assert AuditEntry.objects.filter(user=user, reason="ticket 12").exists()


def test_staff_rotate_undo_and_revoke(
    standin: StandIn, key: VirtualKey, as_staff: APIClient, user: User
) -> None:
    def act(action: str) -> list[str]:
        as_staff.post("/admin/keys", {"action": action, "user": user.email}, format="json")
        sync()
        return sorted(VirtualKey.live.values_list("lifecycle", flat=True))

    assert act("rotate") == ["active", "retiring"]
    assert act("undo_rotation") == ["active"]
    assert act("revoke") == ["active"]
    assert only_key_of_gateway(standin) != key.key_hash


def only_key_of_gateway(standin: StandIn) -> str:
    (token,) = standin.keys
    return token


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "action"),
        ({"action": "explode", "user": "1"}, 400, "action"),
        ({"action": "block"}, 400, "user"),
        ({"action": "block", "user": "nobody@example.com"}, 404, "user"),
        ({"action": "block", "user": "alice@example.com", "key": 999999}, 404, "key"),
        ({"action": "explain", "user": "alice@example.com"}, 400, "model"),
    ],
)
def test_bad_requests_name_the_field(
    key: VirtualKey, as_staff: APIClient, body: dict[str, object], status: int, param: str
) -> None:
    answer = as_staff.post("/admin/keys", body, format="json")
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


def test_further_keys_only_as_far_as_the_plan_allows(
    standin: StandIn, key: VirtualKey, as_staff: APIClient, user: User, free: Plan
) -> None:
    body = {"action": "create", "user": user.email, "key_label": "ci"}
    refused = as_staff.post("/admin/keys", body, format="json")
    assert refused.json()["error"]["code"] == "too_many_keys"
    free.max_keys = 2
    free.save()
    assert as_staff.post("/admin/keys", body, format="json").status_code == 200
    assert as_staff.post("/admin/keys", body, format="json").status_code == 409


def test_staff_have_access_explained(
    standin: StandIn, key: VirtualKey, as_staff: APIClient, user: User
) -> None:
    def explain(model: str) -> dict[str, bool | None]:
        body = {"action": "explain", "user": user.email, "model": model}
        links = as_staff.post("/admin/keys", body, format="json").json()["access"]
        return {link["fact"]: link["holds"] for link in links}

    assert explain("small")["The plan includes the model."] is True
    assert explain("large")["There is no model named large."] is False


def test_limits_side_by_side_show_what_differs(
    standin: StandIn, key: VirtualKey, as_staff: APIClient, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    shown = as_staff.post("/admin/keys", {"action": "show", "user": user.email}, format="json")
    budget = next(row for row in shown.json()["limits"] if row["limit"] == "budget")
    assert (budget["plan"], budget["desired"], budget["observed"]) == ("50.00", "50", "1")
    assert only_key(user).last_four in budget["key"]

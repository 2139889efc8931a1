"""Keys at the gateway that we did not make: staff vouch for them, or remove them."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry
from llmkeys import audit, drift, gateway
from llmkeys.errors import KeyIsOurs, KeyIsTrusted
from llmkeys.foreign import distrust, remove, trust
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import AuditFinding, TrustedKey, VirtualKey
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE
from tests.llmkeys.standin import StandIn
from tests.llmkeys.test_commands import run

pytestmark = pytest.mark.django_db

PASSWORD = "staff-password"


@pytest.fixture
def stray(standin: StandIn, key: VirtualKey) -> str:
    """The hash of a key that somebody made with the master key, found by an audit."""
    token = str(gateway.client().create_key("sk-by-an-attacker-1", {})["token"])
    audit.run_audit()
    return token


def act(client: Client, action: str, pk: int) -> str:
    form = {"action": action, "_selected_action": [pk], "confirmed": "yes", "reason": "a leak"}
    form |= {"password": PASSWORD, "submission": action}
    url = reverse("admin:llmkeys_auditfinding_changelist")
    return client.post(url, form, follow=True).text


def test_the_list_shows_what_names_a_key_and_what_it_may_do(
    stray: str, staff_client: Client
) -> None:
    page = staff_client.get(reverse("admin:llmkeys_auditfinding_changelist")).text
    assert stray[:12] in page
    assert "no budget limit; all models; spent $0.00" in page


def test_staff_remove_a_key_after_giving_password_and_reason(
    standin: StandIn, key: VirtualKey, stray: str, staff_client: Client
) -> None:
    found = AuditFinding.objects.get()
    url = reverse("admin:llmkeys_auditfinding_changelist")
    asked = staff_client.post(url, {"action": "remove", "_selected_action": [found.pk]})
    assert "for good" in asked.text
    assert stray in standin.keys

    act(staff_client, "remove", found.pk)

    assert set(standin.keys) == {key.key_hash}
    assert not drift.drift_now().counts
    entry = AuditEntry.objects.get(action="foreign_key.removed")
    assert entry.reason == "a leak"
    assert entry.before == {"key_hash": stray, "alias": ""}


def test_staff_vouch_for_a_key_and_take_it_back(stray: str, staff_client: Client) -> None:
    act(staff_client, "trust", AuditFinding.objects.get().pk)
    trusted = TrustedKey.objects.get(key_hash=stray, reason="a leak")
    assert not drift.drift_now().counts
    with pytest.raises(KeyIsTrusted):
        remove(key_hash=stray, reason="a mistake", cause=CAUSE)
    distrust(trusted=trusted, cause=CAUSE)
    assert drift.drift_now().counts == {"foreign": 1}
    acts = AuditEntry.objects.filter(action__startswith="foreign_key.").order_by("pk")
    assert [entry.action for entry in acts] == ["foreign_key.trusted", "foreign_key.distrusted"]


def test_neither_is_for_a_key_of_ours(
    standin: StandIn, key: VirtualKey, staff_client: Client
) -> None:
    standin.edit(key, max_budget=99.0)
    audit.run_audit(repair=False)
    for action in ("trust", "remove"):
        assert "one of ours" in act(staff_client, action, AuditFinding.objects.get().pk)
    for refused in (trust, remove):
        with pytest.raises(KeyIsOurs):
            refused(key_hash=key.key_hash, alias="", reason="a mistake", cause=CAUSE)
    assert key.key_hash in standin.keys
    assert not TrustedKey.objects.exists()


def test_a_removal_that_failed_is_on_the_record_and_stays_to_be_done(
    standin: StandIn, stray: str
) -> None:
    standin.before = faults.refused
    with pytest.raises(LiteLLMError):
        remove(key_hash=stray, reason="a leak", cause=CAUSE)
    assert AuditEntry.objects.filter(action="foreign_key.removal_failed").exists()
    assert drift.drift_now().counts == {"foreign": 1}


def test_the_command_shows_what_it_removes_and_asks(
    standin: StandIn, key: VirtualKey, stray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stray in run("audit_keys", "--dry-run")
    command = ("remove_foreign_keys", stray, "--reason", "a leak")
    monkeypatch.setattr("builtins.input", lambda: "no")
    assert "nothing removed" in run(*command)
    assert stray in standin.keys
    monkeypatch.setattr("builtins.input", lambda: "yes")
    assert "no budget limit" in run(*command)
    assert set(standin.keys) == {key.key_hash}
    assert "is not at the gateway" in run(*command)
    assert "one of ours" in run("remove_foreign_keys", key.key_hash, "--reason", "x", "--yes")
    assert key.key_hash in standin.keys

"""What support and operators run."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from llmkeys import converge, gateway, metrics, reconcile, rotation
from llmkeys.models import GatewayState, VirtualKey
from plans.entitlements import refresh_entitlements
from plans.models import Plan
from tesslate.lib.crypto import decrypt
from tests.factories import UserFactory
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE, entitle, only_key, sync
from tests.llmkeys.standin import MASTER_KEY, StandIn, client_of

pytestmark = pytest.mark.django_db

Run = Callable[..., str]


def run(name: str, *args: str) -> str:
    """Its output; with the reason at the end where it fails."""
    out = io.StringIO()
    try:
        call_command(name, *args, stdout=out, stderr=io.StringIO())
    except CommandError as error:
        return f"{out.getvalue()}\nfailed: {error}"
    return out.getvalue()


@pytest.fixture
def settled(standin: StandIn, user: User, free: Plan) -> VirtualKey:
    """As the product itself would have it: entitlement decided by plans, key in step."""
    refresh_entitlements([user.pk], cause=CAUSE)
    sync()
    return only_key(user)


def test_audit_keys_prints_a_table_and_repairs(standin: StandIn, settled: VirtualKey) -> None:
    standin.edit(settled, max_budget=99.0)
    assert "drifted" in run("audit_keys", "--dry-run")
    assert standin.key(settled).max_budget == 99
    assert re.search(r"repaired +1\n", run("audit_keys", "--repair"))
    assert standin.key(settled).max_budget == 1
    assert "failed" not in run("audit_keys", "--dry-run")


def test_audit_keys_fails_when_it_cannot_finish(standin: StandIn, settled: VirtualKey) -> None:
    standin.before = faults.refused
    assert "not finished" in run("audit_keys")


def test_converge_says_so_and_when(standin: StandIn, settled: VirtualKey) -> None:
    assert run("converge", "--check").endswith("converged\n")
    assert GatewayState.objects.get().converged_at is not None


def test_converge_finds_a_difference_in_every_stage(
    standin: StandIn, settled: VirtualKey, user: User, pro: Plan
) -> None:
    standin.edit(settled, max_budget=99.0, blocked=True)
    assert "observed → gateway: user" in run("converge", "--check")
    assert "is refused (401)" in run("converge", "--check")

    user.current_entitlement.plan = pro
    user.current_entitlement.save()
    told = run("converge", "--check")
    assert "billing → entitlement: user" in told
    assert "desired → observed: user" in told

    VirtualKey.objects.update(lifecycle="retired")
    assert "is entitled and has no key" in run("converge", "--check")
    assert "failed:" in run("converge", "--check")


def test_staff_who_only_use_the_admin_need_no_entitlement(
    standin: StandIn, settled: VirtualKey, staff: User
) -> None:
    assert run("converge", "--check").endswith("converged\n")


def test_the_last_comparison_is_kept_for_metrics_and_staff(
    standin: StandIn, settled: VirtualKey, staff_client: Client
) -> None:
    converge.check(tell=lambda difference: None)
    assert figure("tesslate_convergence_differences", "observed → gateway") == 0

    standin.edit(settled, max_budget=99.0)
    told: list[str] = []
    converge.check(tell=lambda difference: told.append(str(difference)))
    assert figure("tesslate_convergence_checked", "desired → observed") == 1
    assert figure("tesslate_convergence_differences", "observed → gateway") == 1
    state = GatewayState.objects.get()
    assert state.converged_at is not None
    assert state.compared_at is not None
    assert state.compared_at > state.converged_at
    page = staff_client.get(f"/admin/llmkeys/gatewaystate/{state.pk}/change/").content.decode()
    assert told[0] in page


def figure(name: str, stage: str) -> float:
    found = [
        sample.value
        for metric in metrics.figures()
        for sample in metric.samples
        if sample.name == name and sample.labels["stage"] == stage
    ]
    return found[0]


def test_converge_tells_an_undecided_user_and_a_key_without_entitlement(
    standin: StandIn, settled: VirtualKey, user: User
) -> None:
    user.current_entitlement.delete()
    told = run("converge", "--check")
    assert "has never been decided" in told
    assert "without an entitlement" in told


def test_converge_during_an_outage_is_no_success(standin: StandIn, settled: VirtualKey) -> None:
    standin.before = faults.refused
    told = run("converge", "--check")
    assert "not compared to the end" in told
    assert "failed:" in told


def test_explain_access_gives_the_chain(
    standin: StandIn, settled: VirtualKey, user: User, pro: Plan
) -> None:
    told = run("explain_access", user.email, "small")
    assert "… because Everyone has at least the" in told
    assert "The plan includes the model." in told
    assert "the key may call the model" in told
    assert told.endswith("access\n")

    told = run("explain_access", user.email, "large")
    assert "NO   The plan does not include the model." in told
    assert "NO   Tried just now: the gateway lets the key call small, and not large." in told
    assert "failed: no access" in told


def test_explain_access_tells_a_spent_budget(
    standin: StandIn, settled: VirtualKey, user: User
) -> None:
    standin.spend(settled, 1.5)
    assert "NO   Spent $1.50 of $1.00 in this window." in run("explain_access", user.email, "small")


def test_explain_access_adds_up_what_all_keys_of_the_user_spent(
    standin: StandIn, settled: VirtualKey, user: User
) -> None:
    standin.spend(settled, 0.25)
    newer = rotation.rotate_key(key=settled, cause=CAUSE)
    sync()
    newer.refresh_from_db()
    standin.spend(newer, float(newer.carried_spend) + 0.1)
    told = run("explain_access", user.email, "small")
    assert "yes  Spent $0.35 of $1.00 in this window with 2 keys." in told
    assert "yes  This key's part: $0.35 of $0.85." in told


@pytest.mark.parametrize("name", ["nobody@example.com", "999999"])
def test_unknown_people_are_told_so(name: str) -> None:
    assert run("show_limits", name).startswith("\nfailed: There is no user")


def test_show_limits_prints_all_three_sides(settled: VirtualKey, user: User) -> None:
    told = run("show_limits", user.email)
    assert "20000" in told
    assert "differs" not in told


def test_reset_limits(standin: StandIn, settled: VirtualKey, user: User) -> None:
    standin.spend(settled, 0.9)
    run("reset_limits", user.email, "--reason", "our fault")
    sync()
    assert standin.key(settled).spend == 0


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[mock.Mock]:
    """What happens while the command waits, instead of time going by."""
    with mock.patch("llmkeys.waiting.time.sleep") as sleep:
        yield sleep


@pytest.mark.parametrize("command", [["resync", "--all"], ["audit_keys", "--repair"]])
def test_what_workers_take_first_counts_as_well(
    standin: StandIn, settled: VirtualKey, pauses: mock.Mock, command: list[str]
) -> None:
    standin.edit(settled, max_budget=99.0)
    drain = reconcile.drain
    pauses.side_effect = lambda seconds: drain()
    with mock.patch.object(reconcile, "drain", return_value=0):
        told = run(*command)
    assert re.search(r"1 of 1 keys|repaired +1\n", told)
    assert "failed" not in told
    assert standin.key(settled).max_budget == 1


@pytest.mark.parametrize("command", [["resync", "--all"], ["audit_keys", "--repair"]])
def test_what_does_not_come_into_step_is_a_failure(
    standin: StandIn, settled: VirtualKey, pauses: mock.Mock, command: list[str]
) -> None:
    standin.edit(settled, max_budget=99.0)
    with mock.patch.object(reconcile, "drain", return_value=0):
        told = run(*command, "--wait", "0")
    assert re.search(r"0 of 1 keys|repaired +0\n", told)
    assert "failed: 1 not in step" in told


def test_nobody_waits_for_what_is_parked(
    standin: StandIn, settled: VirtualKey, pauses: mock.Mock
) -> None:
    def give_up(seconds: float) -> int:
        VirtualKey.objects.update(parked_at=timezone.now())
        return 0

    with mock.patch.object(reconcile, "drain", side_effect=give_up):
        assert "1 not in step, 1 of them parked" in run("resync", "--all")
    pauses.assert_not_called()


def test_resync_of_nobody_is_a_failure(settled: VirtualKey) -> None:
    assert "failed: Name a user, or say --all" in run("resync")


def test_resync_reads_first_and_repairs(standin: StandIn, settled: VirtualKey, user: User) -> None:
    standin.edit(settled, max_budget=99.0)
    assert "1 of 1" in run("resync", user.email)
    standin.edit(settled, max_budget=99.0)
    assert "1 of 1" in run("resync", "--all")
    assert standin.key(settled).max_budget == 1


def test_S08_check_master_keys_before_one_is_taken_away(
    standin: StandIn, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LITELLM_MASTER_KEYS = ["sk-new-and-unknown", MASTER_KEY]
    gateway.use(client_of(standin))
    told = run("check_master_keys")
    assert "refused" in told
    assert "accepted" in told
    assert MASTER_KEY not in told
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-candidate-00001\n"))
    assert "failed" in run("check_master_keys", "--candidate")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{MASTER_KEY}\n"))
    assert "Put it first" in run("check_master_keys", "--candidate")


def test_S42_encryption_keys_rotate_by_command_and_resume(
    standin: StandIn, free: Plan, settings: Settings
) -> None:
    for person in UserFactory.create_batch(5):
        entitle(person, free)
    values = {key.pk: decrypt(key.secret) for key in VirtualKey.objects.all()}
    old, new = settings.ENCRYPTION_KEYS[0], Fernet.generate_key().decode()

    settings.ENCRYPTION_KEYS = [new, old]
    assert {key.pk: decrypt(key.secret) for key in VirtualKey.objects.all()} == values
    assert "5 encrypted anew, 0 were already" in run("reencrypt_keys", "--batch", "2")
    assert "0 encrypted anew, 5 were already" in run("reencrypt_keys")

    settings.ENCRYPTION_KEYS = [new]
    assert {key.pk: decrypt(key.secret) for key in VirtualKey.objects.all()} == values


def test_S42_what_no_key_opens_is_named_and_left(
    standin: StandIn, settled: VirtualKey, settings: Settings
) -> None:
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert f"cannot be opened with any of ENCRYPTION_KEYS: virtual key {settled.pk}" in run(
        "reencrypt_keys"
    )

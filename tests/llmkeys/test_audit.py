"""Whatever happened at the gateway behind our back is found, and what is ours is put right."""

from datetime import timedelta

import httpx
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from llmkeys import audit, drift, foreign, gateway, services, shared_objects
from llmkeys.models import AuditFinding, AuditRun, PlanAtGateway, SpendLimit, VirtualKey
from plans.models import Plan
from tesslate.lib.crypto import decrypt
from tests.factories import UserFactory
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE, entitle, only_key, sync
from tests.llmkeys.faults import answering, on
from tests.llmkeys.standin import Fault, StandIn

pytestmark = pytest.mark.django_db

OURS = {"managed_by": "tesslate"}


def run(*, repair: bool = True) -> AuditRun:
    result = audit.run_audit(repair=repair)
    if repair:
        shared_objects.sync_plans()
        sync()
    return result


def clean() -> bool:
    """Another audit finds nothing more."""
    counts = audit.run_audit(repair=False).counts
    return set(counts) <= {"in step", "foreign", "orphan"}


def test_a_gateway_in_step_costs_no_write(standin: StandIn, key: VirtualKey) -> None:
    assert run().counts == {"in step": 1}
    # Plans are read by an update without fields, which changes nothing.
    assert [body for body in standin.writes() if set(body) - {"team_id"}] == []


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        ({"models": []}, "models"),
        ({"max_budget": None}, "max_budget"),
        ({"max_budget": 10_000.0}, "max_budget"),
        ({"blocked": True}, "blocked"),
        ({"rpm_limit": 9999}, "rpm_limit"),
        ({"team_id": None}, "team_id"),
        ({"budget_id": None}, "budget_id"),
        ({"metadata": {}}, "metadata"),
        ({"key_alias": "renamed"}, "alias"),
        ({"allowed_routes": []}, "allowed_routes"),
    ],
)
def test_S11_an_edit_by_hand_is_found_and_repaired(
    standin: StandIn, key: VirtualKey, edit: dict[str, object], field: str
) -> None:
    standin.edit(key, **edit)
    result = run()
    finding = AuditFinding.objects.get(run=result)
    assert finding.kind == "drifted"
    assert field in finding.fields
    ours, theirs = finding.fields[field]
    assert ours != theirs
    assert clean()


def test_S39_an_expiry_set_at_the_gateway_is_taken_off(standin: StandIn, key: VirtualKey) -> None:
    standin.edit(key, expires=timezone.now().timestamp() - 60)
    assert gateway.client().probe(decrypt(key.secret)).is_refused
    run()
    assert gateway.client().probe(decrypt(key.secret)).models == {"small"}


def test_S29_a_key_deleted_at_the_gateway_comes_back_with_its_value(
    standin: StandIn, key: VirtualKey
) -> None:
    standin.lose(key)
    assert run().counts == {"missing": 1}
    assert gateway.client().probe(decrypt(key.secret)).models == {"small"}
    assert clean()


def test_S29_a_team_deleted_at_the_gateway_comes_back_with_its_keys(
    standin: StandIn, key: VirtualKey
) -> None:
    team_id = standin.key(key).team_id
    gateway.client()._call("POST", "/team/delete", {"team_ids": [team_id]})
    run()
    assert team_id in standin.teams
    assert key.key_hash in standin.keys
    assert clean()


def test_S29_a_key_taken_off_its_team_outlives_the_team_and_comes_back_to_it(
    standin: StandIn, key: VirtualKey
) -> None:
    team_id = standin.key(key).team_id
    standin.edit(key, team_id=None)
    gateway.client()._call("POST", "/team/delete", {"team_ids": [team_id]})
    assert key.key_hash in standin.keys
    run()
    assert standin.key(key).team_id == team_id
    assert clean()


def test_a_budget_row_deleted_at_the_gateway_comes_back(standin: StandIn, key: VirtualKey) -> None:
    """Deleting it takes all rates off its keys."""
    budget_id = standin.key(key).budget_id
    gateway.client()._call("POST", "/budget/delete", {"id": budget_id})
    run()
    sync()
    assert budget_id in standin.budgets
    assert standin.key(key).budget_id == budget_id
    assert clean()


def test_rates_edited_at_the_gateway_are_put_back(standin: StandIn, key: VirtualKey) -> None:
    gateway.client().update_budget(str(standin.key(key).budget_id), {"rpm_limit": 100_000})
    result = run()
    assert result.counts["plan drifted"] == 1
    assert standin.budgets[str(standin.key(key).budget_id)].rpm_limit == 20


def test_S12_a_key_marked_as_ours_that_we_do_not_know_is_reported_and_left(
    standin: StandIn, key: VirtualKey
) -> None:
    row = gateway.client().create_key(
        "sk-unknown-to-us-0001", {"key_alias": "tesslate-u9-gone", "metadata": OURS}
    )
    result = run()
    assert result.counts["orphan"] == 1
    assert AuditFinding.objects.get(run=result).kind == "orphan"
    assert row["token"] in standin.keys


def test_S13_foreign_keys_are_counted_and_never_touched(standin: StandIn, key: VirtualKey) -> None:
    for number in range(3):
        gateway.client().create_key(
            f"sk-foreign-key-000{number}", {"key_alias": f"theirs-{number}"}
        )
    standin.forget_calls()
    assert run().counts["foreign"] == 3
    assert standin.writes("/key/") == []


def test_keys_that_staff_vouch_for_are_counted_apart_and_not_listed(
    standin: StandIn, key: VirtualKey
) -> None:
    row = gateway.client().create_key("sk-another-system-01", {"key_alias": "theirs"})
    assert run().counts["foreign"] == 1
    found = AuditFinding.objects.get()
    assert found.fields["max_budget"] == [None, None]
    foreign.trust(key_hash=row["token"], alias="theirs", reason="the batch system", cause=CAUSE)
    assert drift.drift_now().foreign == 0
    assert run().counts == {"in step": 1, "trusted": 1}
    assert not drift.findings_now().exists()


def test_what_was_repaired_or_written_anew_is_no_drift_any_more(
    standin: StandIn, key: VirtualKey
) -> None:
    standin.edit(key, max_budget=99.0)
    run(repair=False)
    assert drift.drift_now().counts == {"drifted": 1}
    services.heal_key(user_id=key.user_id, cause=CAUSE)
    sync()
    assert drift.drift_now().counts == {}
    standin.edit(key, max_budget=99.0)
    assert run().counts == {"drifted": 1}
    assert drift.drift_now().counts == {}


def test_S40_a_twin_of_ours_is_deleted_by_its_hash(standin: StandIn, key: VirtualKey) -> None:
    twin = gateway.client().create_key(
        "sk-twin-of-ours-0001", {"metadata": {**OURS, "key": key.pk}}
    )
    standin.keys[twin["token"]].key_alias = key.alias
    assert run().counts["duplicate"] == 1
    assert set(standin.keys) == {key.key_hash}


def test_a_retired_key_that_is_back_is_removed_again(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    """The gateway was restored from a backup made before the account was closed."""
    secret = decrypt(key.secret)
    VirtualKey.objects.update(
        lifecycle="retired", removed_at=timezone.now(), observed=None, secret=""
    )
    assert run().counts == {"unwanted": 1}
    assert gateway.client().probe(secret).is_refused


def test_S31_a_gateway_restored_from_an_old_backup_is_repaired(
    standin: StandIn, free: Plan, pro: Plan
) -> None:
    users = UserFactory.create_batch(12)
    for person in users:
        entitle(person, free)
    sync()
    for number, person in enumerate(users):
        key = only_key(person)
        if number % 3 == 0:
            standin.lose(key)
        elif number % 3 == 1:
            standin.edit(key, max_budget=0.01, team_id=None)
    run()
    assert clean()
    assert len(standin.keys) == 12


def test_S32_our_database_restored_from_an_old_backup_lists_later_keys_as_orphans(
    standin: StandIn, free: Plan, stranger: User, key: VirtualKey
) -> None:
    entitle(stranger, free)
    sync()
    later = VirtualKey.objects.get(user=stranger)
    later.events.all().delete()
    later.delete()
    result = run()
    assert result.counts == {"in step": 1, "orphan": 1}
    assert later.key_hash in standin.keys


def test_S35_a_key_that_slips_between_two_pages_is_not_missing(
    standin: StandIn, key: VirtualKey
) -> None:
    empty = {"keys": [], "total_count": 0, "current_page": 1, "total_pages": 0}
    standin.before = on("/key/list", answering(200, empty))
    assert run().counts == {}
    assert key.key_hash in standin.keys


def test_S36_an_interrupted_audit_concludes_nothing_and_goes_on_later(
    standin: StandIn, free: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for person in UserFactory.create_batch(7):
        entitle(person, free)
    sync()
    list_keys = gateway.client().list_keys
    monkeypatch.setattr(gateway.client(), "list_keys", lambda page: list_keys(page, size=2))
    standin.before = on_page(3, faults.silent)
    first = audit.run_audit()
    assert first.state == "interrupted"
    assert "missing" not in first.counts

    standin.before = None
    standin.forget_calls()
    second = audit.run_audit()
    assert second.pk == first.pk
    assert second.state == "finished"
    assert second.counts == {"in step": 7}
    pages = [body["page"] for path, body in standin.calls if path == "/key/list"]
    assert pages == ["3", "4"]


def test_S36_a_key_made_during_the_interruption_and_lost_again_is_missed(
    standin: StandIn, key: VirtualKey, free: Plan
) -> None:
    standin.before = on_page(1, faults.silent)
    assert audit.run_audit().state == "interrupted"
    standin.before = None
    entitle(UserFactory.create(email="late@example.com"), free)
    sync()
    late = VirtualKey.objects.get(user__email="late@example.com")
    standin.lose(late)
    second = audit.run_audit()
    assert second.counts == {"in step": 1, "missing": 1}


def test_more_keys_cost_no_more_queries(standin: StandIn, key: VirtualKey, free: Plan) -> None:
    def spend_and_audit() -> int:
        for number, live in enumerate(VirtualKey.live.all()):
            standin.spend(live, 0.01 * number + VirtualKey.live.count())
        with CaptureQueriesContext(connection) as queries:
            audit.run_audit(repair=False)
        return len(queries)

    few = spend_and_audit()
    for person in UserFactory.create_batch(7):
        entitle(person, free, limit_percent=50, overage_cents=10)
        SpendLimit.objects.create(user=person, limit=1)
    sync()
    assert spend_and_audit() == few


def test_S37_during_an_outage_nothing_is_missing(standin: StandIn, key: VirtualKey) -> None:
    standin.before = faults.refused
    result = audit.run_audit()
    assert result.state == "interrupted"
    assert result.counts == {}
    assert AuditFinding.objects.count() == 0
    key.refresh_from_db()
    assert key.is_in_step


def test_S38_spend_is_taken_over_as_the_gateway_tells_it_and_not_corrected(
    standin: StandIn, key: VirtualKey
) -> None:
    standin.spend(key, 0.37)
    run()
    key.refresh_from_db()
    assert float(key.spend) == pytest.approx(0.37)
    assert standin.key(key).spend == 0.37


def test_a_dry_run_changes_nothing_and_still_finds(standin: StandIn, key: VirtualKey) -> None:
    standin.edit(key, max_budget=9.0)
    result = run(repair=False)
    assert result.counts == {"drifted": 1}
    assert standin.key(key).max_budget == 9.0
    key.refresh_from_db()
    assert key.is_in_step


def test_a_key_that_is_being_worked_on_is_left_alone(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    assert audit.run_audit().counts == {"moving": 1}


def test_stuck_keys_get_another_chance(standin: StandIn, key: VirtualKey, user: User) -> None:
    VirtualKey.objects.update(
        parked_at=timezone.now(), generation=99, lease_until=timezone.now() - timedelta(hours=1)
    )
    PlanAtGateway.objects.update(parked_at=timezone.now())
    run()
    assert only_key(user).is_in_step
    assert PlanAtGateway.objects.get().parked_at is None


def on_page(number: int, fault: Fault) -> Fault:
    def chosen(request: httpx.Request) -> httpx.Response | None:
        if request.url.params.get("page") == str(number):
            return fault(request)
        return None

    return chosen

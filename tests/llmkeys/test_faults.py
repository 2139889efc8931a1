"""Faults between us and the gateway, one at a time; random histories of them are in tests/soak."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.utils import timezone

from accounts.models import User
from llmkeys import breaker, gateway, leases, marking, reconcile, shared_objects
from llmkeys.models import GatewayState, KeyEvent, VirtualKey
from llmkeys.services import heal_key
from plans.models import Plan
from tesslate.lib.crypto import decrypt
from tests.factories import UserFactory
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE, entitle, only_key, sync
from tests.llmkeys.faults import answering, on
from tests.llmkeys.standin import Fault, StandIn, client_of

pytestmark = pytest.mark.django_db


def test_S02_an_outage_leaves_the_key_pending_and_it_comes_later(
    standin: StandIn, user: User, free: Plan
) -> None:
    standin.before = faults.refused
    entitle(user, free)
    sync()
    assert only_key(user).observed is None

    standin.before = None
    breaker.close()
    sync()
    assert only_key(user).is_in_step


@pytest.mark.parametrize("after", [faults.silent, answering(500), answering(502), faults.torn])
def test_S04_a_lost_answer_to_a_creation_ends_in_exactly_one_key(
    standin: StandIn, user: User, free: Plan, after: Fault
) -> None:
    standin.after = on("/key/generate", after)
    entitle(user, free)
    sync()
    key = only_key(user)
    assert key.is_in_step
    assert list(standin.keys) == [key.key_hash]
    assert len(standin.writes("/key/generate")) == 1


@pytest.mark.parametrize("after", [faults.silent, answering(500), answering(504), faults.torn])
def test_S03_a_lost_answer_to_an_update_is_resolved_by_reading_back(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan, after: Fault
) -> None:
    standin.after = on("/key/update", after)
    entitle(user, pro)
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert standin.key(key).max_budget == 50
    assert len(standin.writes("/key/update")) == 1


@pytest.mark.parametrize("before", [faults.silent, answering(500), answering(503)])
def test_S43_a_failure_before_the_effect_is_tried_again(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan, before: Fault
) -> None:
    standin.before = on("/key/update", before)
    entitle(user, pro)
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert standin.key(key).max_budget == 50


def test_S05_a_taken_alias_that_is_our_own_key_is_success(
    standin: StandIn, user: User, free: Plan
) -> None:
    entitle(user, free)
    key = only_key(user)
    gateway.client().create_key(decrypt(key.secret), {"key_alias": key.alias, "max_budget": 3})
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert len(standin.keys) == 1
    assert standin.key(key).max_budget == 1


def test_S05_a_taken_alias_that_is_another_key_leads_to_another_alias(
    standin: StandIn, user: User, free: Plan
) -> None:
    entitle(user, free)
    key = only_key(user)
    other = gateway.client().create_key("sk-somebody-elses-0001", {"key_alias": key.alias})
    sync()
    fresh = only_key(user)
    assert fresh.is_in_step
    assert fresh.alias != key.alias
    assert fresh.alias.startswith(key.alias)
    assert other["token"] in standin.keys


def test_S06_retry_after_is_honoured(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    standin.before = on("/key/update", answering(429, **{"retry-after": "60"}))
    entitle(user, pro)
    reconcile.sync_keys([key.pk])
    key.refresh_from_db()
    assert key.next_attempt_at > timezone.now() + timedelta(seconds=50)
    assert len(standin.writes("/key/update")) == 1


def test_S07_a_wrong_master_key_is_one_alarm_and_no_keys_failure(
    standin: StandIn, free: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.use(client_of(standin, master_keys=["sk-wrong-key-0001"]))
    users = UserFactory.create_batch(8)
    for person in users:
        entitle(person, free)
    for _ in range(3):
        sync()
    keys = VirtualKey.objects.all()
    assert [key.attempts for key in keys] == [0] * 8
    assert GatewayState.objects.get().reason == "master_key"
    assert sum("Key sync stops" in record.message for record in caplog.records) == 1

    gateway.use(client_of(standin))
    GatewayState.objects.update(retry_at=timezone.now())
    assert breaker.try_to_close(gateway.client())
    sync()
    assert all(key.is_in_step for key in VirtualKey.objects.all())


def test_an_open_breaker_lets_no_call_through(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    standin.before = faults.refused
    entitle(user, pro)
    for _ in range(2):
        breaker.open_for(breaker.look(gateway.client()) or AssertionError())  # type: ignore[arg-type]
    standin.forget_calls()
    assert sync() == 0
    assert standin.calls == []


def test_five_failures_of_one_key_do_not_stop_the_others(
    standin: StandIn, key: VirtualKey, free: Plan, pro: Plan, user: User
) -> None:
    """A poison key: whatever it is asked, the gateway fails with this one alone."""

    def poison(request: httpx.Request) -> httpx.Response | None:
        return answering(500)(request) if key.key_hash.encode() in request.content else None

    standin.before = poison
    entitle(user, pro)
    for _ in range(20):
        sync()
    assert breaker.is_open() is False
    key.refresh_from_db()
    assert key.parked_at is not None
    assert "500" in key.last_error

    bob = UserFactory.create()
    entitle(bob, free)
    sync()
    assert only_key(bob).is_in_step


def test_a_parked_key_gets_a_fresh_start_with_any_change(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    VirtualKey.objects.update(parked_at=timezone.now(), attempts=12, last_error="500")
    entitle(user, pro)
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert key.parked_at is None
    assert key.last_error == ""


def test_S09_a_key_that_the_gateway_lost_is_made_again_with_the_same_value(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    standin.lose(key)
    entitle(user, pro)
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert standin.key(key).max_budget == 50


def test_S09_a_key_made_again_keeps_its_spend_of_this_window(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    VirtualKey.objects.update(spend="0.7")
    standin.lose(key)
    marking.mark_users([user.pk], cause=CAUSE)
    VirtualKey.objects.update(in_doubt=True)
    sync()
    assert standin.key(key).spend == pytest.approx(0.7)


def test_S09_a_key_whose_team_the_gateway_lost_waits_until_the_team_is_there_again(
    standin: StandIn, key: VirtualKey
) -> None:
    team_id = standin.key(key).team_id
    standin.edit(key, team_id=None)
    gateway.client()._call("POST", "/team/delete", {"team_ids": [team_id]})
    marking.mark_keys(VirtualKey.objects.all(), cause=CAUSE, in_doubt=True)
    sync()
    shared_objects.sync_plans()
    sync()
    assert only_key(key.user).is_in_step
    assert standin.key(key).team_id == team_id
    assert not KeyEvent.objects.filter(key=key, action="missing").exists()


def test_nonsense_a_key_that_is_there_and_is_not_is_tried_again_later(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    taken = {"error": {"message": "taken", "type": "bad_request_error", "param": "key_alias"}}
    unknown = {"error": {"message": "No such key", "type": "not_found_error"}}

    def contradict(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/key/update":
            return httpx.Response(404, json=unknown)
        if request.url.path == "/key/generate":
            return httpx.Response(400, json=taken)
        return None

    standin.before = contradict
    entitle(user, pro)
    reconcile.sync_batch()
    assert "contradicts itself" in only_key(user).last_error
    standin.before = None
    sync()
    assert only_key(user).is_in_step


def test_S10_an_archived_row_counts_as_missing(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    gateway.client().delete_key(key.key_hash)
    VirtualKey.objects.update(in_doubt=True)
    marking.mark_users([user.pk], cause=CAUSE)
    sync()
    assert key.key_hash in standin.keys


def test_S18_two_workers_and_one_key_make_one_call(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    first = leases.claim(VirtualKey, limit=10)
    second = leases.claim(VirtualKey, limit=10)
    assert first.ids == [key.pk]
    assert second.ids == []


def test_S18_a_change_during_the_work_is_not_lost(
    standin: StandIn, key: VirtualKey, user: User, free: Plan, pro: Plan
) -> None:
    entitle(user, pro)

    def back_to_free(request: httpx.Request) -> None:
        standin.before = None
        entitle(user, free)

    standin.before = on("/key/update", back_to_free)
    reconcile.sync_keys([key.pk])
    key.refresh_from_db()
    assert key.is_in_step
    assert standin.key(key).max_budget == 1


def test_S18_a_wish_to_read_back_that_comes_during_the_work_is_not_lost(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)

    def edited_and_noticed(request: httpx.Request) -> httpx.Response | None:
        standin.after = None
        standin.edit(key, rpm_limit=9999)
        heal_key(user_id=user.pk, cause=CAUSE)
        return None

    standin.after = on("/key/update", edited_and_noticed)
    sync()
    assert standin.key(key).rpm_limit is None


def test_S19_a_worker_that_died_is_followed_by_one_that_reads_first(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    dead = leases.claim(VirtualKey, limit=10)
    assert sync() == 0

    VirtualKey.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    paths = [path for path, _ in standin.calls if path.startswith("/key/")]
    assert paths == ["/key/info", "/key/update"]
    assert dead.token != key.lease_token


def test_S19_what_a_worker_reports_after_its_lease_is_dropped(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    late = leases.claim(VirtualKey, limit=10)
    groups, _ = reconcile.prepare(gateway.client(), late)
    VirtualKey.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    sync()
    observed = only_key(user).observed
    reconcile.act(gateway.client(), breaker.BatchBreaker(gateway.client()), late, groups)
    assert only_key(user).observed == observed


def test_S20_the_same_wake_up_twice_is_one_call(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    reconcile.sync_keys([key.pk])
    reconcile.sync_keys([key.pk])
    assert len(standin.writes("/key/")) == 1


def test_S21_fifty_changes_are_one_call(
    standin: StandIn, key: VirtualKey, user: User, free: Plan, pro: Plan
) -> None:
    for number in range(50):
        entitle(user, free if number % 2 else pro)
    entitle(user, pro)
    sync()
    assert len(standin.writes("/key/")) == 1


def test_S21_wake_ups_that_have_piled_up_are_worked_off_together(
    standin: StandIn, free: Plan
) -> None:
    for person in UserFactory.create_batch(5):
        entitle(person, free)
    first, *_ = VirtualKey.objects.order_by("pk")
    assert reconcile.sync_keys([first.pk]) == 5
    assert reconcile.sync_keys([first.pk]) == 0
    assert all(key.is_in_step for key in VirtualKey.objects.all())


def test_S22_a_wake_up_leaves_what_fell_behind_before_it_to_others(
    standin: StandIn, user: User, free: Plan
) -> None:
    for person in UserFactory.create_batch(3):
        entitle(person, free)
    entitle(user, free)
    assert reconcile.sync_keys([only_key(user).pk]) == 1
    assert only_key(user).is_in_step


def test_S40_aliases_are_ours_alone_so_that_no_race_can_share_one(
    standin: StandIn, free: Plan
) -> None:
    for person in UserFactory.create_batch(5):
        entitle(person, free)
    sync()
    aliases = [key.key_alias for key in standin.keys.values()]
    assert len(set(aliases)) == 5


def test_S41_no_secret_is_in_the_trail_the_tasks_or_the_log(
    standin: StandIn,
    user: User,
    free: Plan,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(marking, "send", lambda *args: sent.append(args))
    caplog.set_level("DEBUG")
    standin.after = on("/key/generate", answering(500), times=2)
    with django_capture_on_commit_callbacks(execute=True):
        entitle(user, free)
        sync()
    key = only_key(user)
    secret = decrypt(key.secret)
    assert sent
    trail = list(KeyEvent.objects.values())
    for text in (str(sent), str(trail), caplog.text, repr(key), str(key.desired), key.last_error):
        assert secret not in text
        assert secret[3:20] not in text


def test_S33_a_refused_key_is_parked_with_the_gateways_words(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    body = {"detail": {"error": "this is a premium feature"}}
    standin.before = on("/key/update", answering(403, body), times=99)
    entitle(user, pro)
    sync()
    key.refresh_from_db()
    assert key.parked_at is not None
    assert "premium" in key.last_error


def test_nonsense_that_claims_success_is_kept_and_tried_again(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    standin.after = on("/key/update", answering(200, {"token": "another", "models": []}))
    entitle(user, pro)
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert KeyEvent.objects.filter(key=key, action="failed", message__contains="another key")

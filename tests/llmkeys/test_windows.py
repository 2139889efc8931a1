"""Budget windows are ours: they follow the billing period, start once, and never start again."""

from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from django.utils import timezone

from accounts.models import User
from llmkeys import (
    acting,
    gateway,
    leases,
    marking,
    reconcile,
    recording,
    rotation,
    services,
)
from llmkeys.models import KeyEvent, VirtualKey
from plans.models import Plan
from tesslate.lib.cause import Cause
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE, PERIOD_START, entitle, only_key, sync
from tests.llmkeys.faults import answering, on
from tests.llmkeys.standin import Fault, StandIn

pytestmark = pytest.mark.django_db

NEXT = datetime(2026, 12, 5, 9, 30, tzinfo=UTC)


def test_U01_the_window_starts_with_stripes_period_and_not_on_the_first(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    standin.spend(key, 0.9)
    entitle(user, free, period_start=NEXT)
    sync()
    row = standin.key(key)
    assert row.spend == 0
    assert row.metadata is not None
    assert row.metadata["window"] == "2026-12-05T09:30:00+00:00"
    # Nothing at the gateway would start a window by itself.
    assert row.budget_duration is None
    assert row.budget_reset_at is None


@pytest.mark.parametrize(
    "start",
    [
        PERIOD_START + timedelta(days=3),  # early renewal
        datetime(2027, 1, 31, tzinfo=UTC),  # anchored on the 31st
        datetime(2028, 2, 29, tzinfo=UTC),  # leap day
        datetime(2026, 11, 19, 12, 0, 1, tzinfo=UTC),  # a trial ends, the anchor moves
    ],
)
def test_U02_any_later_period_start_starts_a_window(
    standin: StandIn, key: VirtualKey, user: User, free: Plan, start: datetime
) -> None:
    standin.spend(key, 0.5)
    entitle(user, free, period_start=start)
    sync()
    assert standin.key(key).spend == 0


def test_U03_ten_events_for_one_renewal_start_one_window(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    for number in range(10):
        entitle(user, free, period_start=NEXT)
        standin.spend(key, 0.1 * (number + 1))
        sync()
    resets = [body for body in standin.writes("/key/update") if body.get("spend") == 0]
    assert len(resets) == 1
    assert standin.key(key).spend == pytest.approx(1.0)


@pytest.mark.parametrize("after", [faults.silent, answering(500), faults.torn])
def test_U03_a_lost_answer_does_not_start_the_window_twice(
    standin: StandIn, key: VirtualKey, user: User, free: Plan, after: Fault
) -> None:
    standin.spend(key, 0.9)
    standin.after = on("/key/update", after)
    entitle(user, free, period_start=NEXT)
    reconcile.sync_keys([key.pk])
    # The reset had its effect; the customer spends again before we look.
    standin.spend(key, 0.25)
    sync()
    assert only_key(user).is_in_step
    assert standin.key(key).spend == 0.25


def test_U03_a_worker_that_dies_after_the_call_does_not_start_the_window_twice(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    standin.spend(key, 0.9)
    entitle(user, free, period_start=NEXT)
    dead = leases.claim(VirtualKey, limit=1)
    groups, _ = reconcile.prepare(gateway.client(), dead)
    acting.bring_in_step(gateway.client(), groups[0][0])  # and then kill -9
    standin.spend(key, 0.25)

    VirtualKey.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    sync()
    assert standin.key(key).spend == 0.25


def test_U04_a_reset_that_failed_is_made_up_for(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    standin.spend(key, 0.9)
    standin.before = on("/key/update", answering(503), times=3)
    entitle(user, free, period_start=NEXT)
    sync()
    assert standin.key(key).spend == 0


def test_U05_spend_that_is_flushed_late_can_be_told_from_a_missing_reset(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    """The window that the gateway names, not the spend that it shows, says what was done."""
    entitle(user, free, period_start=NEXT)
    sync()
    standin.spend(key, 0.02)
    marking.mark_users([user.pk], cause=CAUSE)
    VirtualKey.objects.update(in_doubt=True)
    standin.forget_calls()
    sync()
    assert standin.writes() == []


def test_an_upgrade_in_the_same_period_raises_the_budget_and_keeps_the_spend(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    standin.spend(key, 0.6)
    entitle(user, pro)
    sync()
    assert standin.key(key).max_budget == 50
    assert standin.key(key).spend == 0.6


def test_a_return_to_an_earlier_period_hands_out_no_budget_again(
    standin: StandIn, key: VirtualKey, user: User, free: Plan, pro: Plan
) -> None:
    """Free, then a paid month that is refunded at once, then free again: still one free budget."""
    entitle(user, pro, period_start=PERIOD_START + timedelta(days=2))
    sync()
    standin.spend(key, 0.8)
    entitle(user, free, period_start=PERIOD_START)
    sync()
    assert standin.key(key).max_budget == 1
    assert standin.key(key).spend == 0.8


def test_staff_reset_a_window_once(standin: StandIn, key: VirtualKey, user: User) -> None:
    standin.spend(key, 0.8)
    services.reset_spend(user=user, reason="our fault", cause=Cause.system("test"))
    sync()
    assert standin.key(key).spend == 0
    standin.spend(key, 0.1)
    marking.mark_users([user.pk], cause=CAUSE)
    sync()
    assert standin.key(key).spend == 0.1
    assert KeyEvent.objects.filter(key=key, action="window started").count() == 1


def test_a_key_made_after_the_last_one_was_retired_goes_on_in_their_window(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    services.reset_spend(user=user, reason="our fault", cause=CAUSE)
    sync()
    standin.spend(key, 0.8)
    services.retire_key(key=key, cause=CAUSE)
    sync()
    new = services.create_key(user=user, label="another", cause=CAUSE)
    sync()
    row = standin.key(new)
    assert (row.max_budget or 0) - row.spend == pytest.approx(0.2)


def test_a_key_made_beside_one_that_is_being_replaced_goes_on_in_their_window(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    services.reset_spend(user=user, reason="our fault", cause=CAUSE)
    successor = rotation.rotate_key(key=key, cause=CAUSE, overlap=timedelta(hours=1))
    services.retire_key(key=successor, cause=CAUSE)
    new = services.create_key(user=user, label="another", cause=CAUSE)
    sync()
    windows = {(standin.key(each).metadata or {})["window"] for each in (key, new)}
    assert len(windows) == 1


def test_a_first_key_given_again_hands_out_no_budget_again(
    standin: StandIn, key: VirtualKey, user: User, free: Plan, pro: Plan
) -> None:
    entitle(user, pro, period_start=PERIOD_START + timedelta(days=2))
    sync()
    standin.spend(key, 0.8)
    services.retire_key(key=key, cause=CAUSE)
    sync()
    entitle(user, free, period_start=PERIOD_START)
    sync()
    row = standin.key(VirtualKey.live.get(user=user))
    assert (row.max_budget or 0) - row.spend == pytest.approx(0.2)


def begun_by_a_worker_that_died(user: User, plan: Plan, start: datetime) -> None:
    entitle(user, plan, period_start=start)
    with mock.patch.object(recording, "record", return_value=False):
        reconcile.sync_batch()
    VirtualKey.objects.update(lease_until=timezone.now())


def test_a_window_that_a_dead_worker_began_is_not_left_for_an_earlier_one(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    begun_by_a_worker_that_died(user, free, NEXT)
    standin.spend(key, 0.4)
    entitle(user, free, period_start=PERIOD_START + timedelta(days=2))
    sync()
    row = standin.key(key)
    assert (row.metadata or {})["window"] == NEXT.isoformat()
    assert row.spend == 0.4
    assert only_key(user).is_in_step


def test_all_keys_follow_to_the_window_that_a_dead_worker_began_for_one(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    begun_by_a_worker_that_died(user, free, NEXT)
    entitle(user, free, period_start=PERIOD_START + timedelta(days=2))
    new = rotation.rotate_key(key=key, cause=CAUSE, overlap=timedelta(hours=1))
    sync()
    windows = {(standin.key(each).metadata or {})["window"] for each in (key, new)}
    assert windows == {NEXT.isoformat()}


def test_a_window_that_somebody_made_up_at_the_gateway_is_not_followed(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    metadata = {**(standin.key(key).metadata or {}), "window": "2999-01-01T00:00:00+00:00"}
    standin.edit(key, metadata=metadata)
    marking.mark_keys(VirtualKey.objects.all(), cause=CAUSE, in_doubt=True)
    sync()
    assert (standin.key(key).metadata or {})["window"] == PERIOD_START.isoformat()


def test_U07_a_budget_of_zero_lets_nothing_through(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    free.budget_cents = 0
    free.save()
    entitle(user, free)
    sync()
    assert standin.key(key).max_budget == 0

"""The reconciler: whatever fails, the gateway ends up saying what the plan says."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from llmkeys import gateway, marking
from llmkeys.metrics import ACCESS_LAG
from llmkeys.models import KeyEvent, VirtualKey
from plans.models import Plan, StripeEvent
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt
from tests.llmkeys.conftest import entitle, only_key, sync
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db


def test_S01_a_new_user_gets_a_key_that_works(standin: StandIn, user: User, free: Plan) -> None:
    entitle(user, free)
    assert sync() == 1

    key = only_key(user)
    assert key.is_in_step
    assert gateway.client().probe(decrypt(key.secret)).models == {"small"}
    row = standin.key(key)
    assert row.models == ["all-team-models"]
    assert row.max_budget == 1
    assert row.metadata is not None
    assert row.metadata["user"] == user.pk
    assert standin.teams[str(row.team_id)].models == ["small"]
    assert standin.budgets[str(row.budget_id)].rpm_limit == 20
    assert len(standin.writes("/key/")) == 1


def test_S14_a_resync_without_change_makes_no_write(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    entitle(user, free)
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert standin.writes() == []


def test_a_plan_change_moves_the_same_key(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    sync()
    assert only_key(user).pk == key.pk
    assert len(standin.writes("/key/")) == 1
    assert standin.key(key).max_budget == 50
    assert KeyEvent.objects.filter(key=key, action="updated").exists()


def test_marking_a_user_is_marking_their_keys(key: VirtualKey, user: User) -> None:
    cause = Cause.staff(user.pk, "x" * 300)
    VirtualKey.objects.update(attempts=3, parked_at=timezone.now())
    before = VirtualKey.objects.values().get()
    first = timezone.now()

    def marked(mark: Callable[[], object]) -> dict[str, Any]:
        VirtualKey.objects.update(**{name: before[name] for name in ("generation", "attempts")})
        VirtualKey.objects.update(dirty_since=first, parked_at=before["parked_at"])
        mark()
        return {**VirtualKey.objects.values().get()}

    one = marked(lambda: marking.mark_keys(VirtualKey.objects.all(), cause=cause))
    other = marked(lambda: marking.mark_users([user.pk], cause=cause))
    assert other.pop("next_attempt_at") > one.pop("next_attempt_at")
    assert other == one
    assert (one["generation"], one["attempts"]) == (before["generation"] + 1, 0)


def waits() -> tuple[float, float]:
    """How many customers waited for the gateway after an event of Stripe's, and seconds in all."""
    samples = {sample.name: sample.value for sample in next(iter(ACCESS_LAG.collect())).samples}
    return samples["tesslate_access_lag_seconds_count"], samples["tesslate_access_lag_seconds_sum"]


def test_wait_from_stripes_event_to_the_gateway_is_measured(
    key: VirtualKey, user: User, pro: Plan
) -> None:
    now = timezone.now()
    stripe_event("evt_1", received_at=now - timedelta(seconds=40))
    count, seconds = waits()

    entitle(user, pro, cause=Cause.stripe("evt_1"))
    sync()

    assert waits()[0] == count + 1
    assert waits()[1] == pytest.approx(seconds + 40, abs=10)


def test_replay_of_an_old_event_is_no_wait(key: VirtualKey, user: User, pro: Plan) -> None:
    stripe_event("evt_old", received_at=timezone.now() - timedelta(days=30))
    count, _ = waits()

    entitle(user, pro, cause=Cause.stripe("evt_old"))
    sync()

    assert waits()[0] == count


def stripe_event(event_id: str, *, received_at: datetime) -> None:
    StripeEvent.objects.create(
        event_id=event_id,
        type="invoice.paid",
        livemode=False,
        created_at=received_at,
        received_at=received_at,
        payload={},
    )

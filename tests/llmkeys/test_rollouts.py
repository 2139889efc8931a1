"""Plan edits: what they will do, and how they get to the gateway."""

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.models import User
from llmkeys import reconcile, rollouts, shared_objects
from llmkeys.errors import PlanNotUsable
from llmkeys.models import Rollout, VirtualKey
from plans.models import GatewayModel, Plan
from plans.signals import plan_changed
from tesslate.lib.errors import Conflict
from tests.factories import GatewayModelFactory, UserFactory
from tests.llmkeys.conftest import CAUSE, entitle, only_key, sync
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db


@pytest.fixture
def crowd(standin: StandIn, free: Plan, monkeypatch: pytest.MonkeyPatch) -> list[User]:
    """Seven users on the free plan, in step; rollouts take them three at a time."""
    monkeypatch.setattr(rollouts, "BATCH", 3)
    users = UserFactory.create_batch(7)
    for person in users:
        entitle(person, free)
    sync()
    standin.forget_calls()
    return users


def budgets(standin: StandIn) -> list[float]:
    return sorted(key.max_budget or 0 for key in standin.keys.values())


def start(plan: Plan, **edit: object) -> Rollout:
    return rollouts.start(plan=plan, edit=edit, cause=CAUSE)


def test_impact_tells_who_is_concerned_and_what_it_costs(
    crowd: list[User], pro: Plan, free: Plan
) -> None:
    large = GatewayModel.objects.get(name="large")
    told = rollouts.impact(free, {"rpm": 40, "gateway_models": [large.pk]})
    assert (told.users, told.keys) == (7, 7)
    assert told.changes[0] == ("rpm", 20, 40)
    assert told.models_lost == ["small"]
    assert told.models_gained == ["large"]
    assert (told.shared_calls, told.key_calls) == (2, 0)
    assert rollouts.impact(free, {"budget_cents": 200}).key_calls == 7
    assert rollouts.impact(free, {"rpm": 20}).changes == []


def test_S22_an_edit_of_rates_and_models_is_two_calls_for_everybody(
    standin: StandIn, crowd: list[User], pro: Plan, free: Plan
) -> None:
    models = list(pro.gateway_models.values_list("pk", flat=True))
    rollout = start(free, rpm=77, gateway_models=models)
    shared_objects.sync_plans()
    assert rollout.state == "done"
    assert [path for path, _ in standin.calls if path.startswith("/key/")] == []
    assert len(standin.writes()) == 2
    assert standin.budgets["tesslate-free"].rpm_limit == 77
    assert standin.teams["tesslate-free"].models == ["large", "small"]


def test_S22_an_edit_of_the_budget_goes_to_each_key_in_batches(
    standin: StandIn, crowd: list[User], free: Plan
) -> None:
    rollout = start(free, budget_cents=250)
    assert rollouts.advance(rollout.pk) == 3
    assert budgets(standin) == [1, 1, 1, 1, 2.5, 2.5, 2.5]
    rollout.refresh_from_db()
    assert rollouts.progress(rollout).percent == 3 * 100 // 7
    rollouts.advance_all()
    rollout.refresh_from_db()
    assert rollout.state == "done"
    assert budgets(standin) == [2.5] * 7
    assert rollouts.progress(rollout).percent == 100
    assert len(standin.writes("/key/")) == 7


def test_S22_a_buyer_is_served_while_a_rollout_is_under_way(
    standin: StandIn, crowd: list[User], free: Plan, pro: Plan
) -> None:
    rollout = start(free, budget_cents=250)
    rollouts.advance(rollout.pk)
    buyer = UserFactory.create()
    entitle(buyer, pro)
    assert reconcile.sync_keys([only_key(buyer).pk]) == 1
    assert only_key(buyer).is_in_step
    assert budgets(standin).count(1) == 4


def test_S23_a_second_edit_supersedes_the_first(
    standin: StandIn, crowd: list[User], free: Plan
) -> None:
    first = start(free, budget_cents=250)
    rollouts.advance(first.pk)
    second = start(free, budget_cents=400)
    rollouts.advance_all()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("superseded", "done")
    assert budgets(standin) == [4] * 7
    sent = [body["max_budget"] for body in standin.writes("/key/update")]
    assert sent.count(2.5) == 3
    assert sent.count(4.0) == 7


def test_S23_an_edit_of_rates_during_a_rollout_finishes_it_too(
    standin: StandIn, crowd: list[User], free: Plan
) -> None:
    first = start(free, budget_cents=250)
    rollouts.advance(first.pk)
    start(free, rpm=30)
    rollouts.advance_all()
    assert budgets(standin) == [2.5] * 7


def test_S24_a_paused_rollout_stands_still_and_goes_on(
    standin: StandIn, crowd: list[User], free: Plan
) -> None:
    rollout = start(free, budget_cents=250)
    rollouts.advance(rollout.pk)
    rollouts.pause(rollout=rollout, cause=CAUSE)
    assert rollouts.advance_all() == 0
    assert budgets(standin).count(2.5) == 3
    with pytest.raises(Conflict):
        rollouts.pause(rollout=rollout, cause=CAUSE)
    rollouts.resume(rollout=rollout, cause=CAUSE)
    rollouts.advance_all()
    assert budgets(standin) == [2.5] * 7


def test_S24_a_cancelled_rollout_puts_everything_back(
    standin: StandIn, crowd: list[User], free: Plan
) -> None:
    rollout = start(free, budget_cents=250)
    rollouts.advance(rollout.pk)
    rollouts.cancel(rollout=rollout, cause=CAUSE)
    rollouts.advance_all()
    rollout.refresh_from_db()
    free.refresh_from_db()
    assert rollout.state == "cancelled"
    assert free.budget_cents == 100
    assert budgets(standin) == [1] * 7


def test_S24_a_finished_rollout_is_rolled_back_to_the_exact_set(
    standin: StandIn, crowd: list[User], free: Plan, pro: Plan
) -> None:
    before = rollouts.snapshot(free, rollouts.EDITABLE)
    models = list(pro.gateway_models.values_list("pk", flat=True))
    rollout = start(free, budget_cents=250, rpm=9, tpm=9000, gateway_models=models)
    rollouts.advance_all()
    shared_objects.sync_plans()
    rollout.refresh_from_db()
    rollouts.roll_back(rollout=rollout, cause=CAUSE)
    rollouts.advance_all()
    shared_objects.sync_plans()
    free.refresh_from_db()
    assert rollouts.snapshot(free, rollouts.EDITABLE) == before
    assert budgets(standin) == [1] * 7
    assert standin.teams["tesslate-free"].models == ["small"]
    assert standin.budgets["tesslate-free"].rpm_limit == 20


def test_S24_what_was_edited_since_cannot_be_rolled_back(crowd: list[User], free: Plan) -> None:
    first = start(free, rpm=30)
    start(free, rpm=40)
    with pytest.raises(Conflict):
        rollouts.roll_back(rollout=first, cause=CAUSE)
    free.refresh_from_db()
    assert free.rpm == 40


def test_S26_a_model_that_the_gateway_does_not_serve_is_refused_with_the_reason(
    standin: StandIn, free: Plan
) -> None:
    unknown = GatewayModelFactory.create(name="not-there")
    with pytest.raises(PlanNotUsable, match="does not serve: not-there"):
        start(free, gateway_models=[unknown.pk])
    assert Rollout.objects.count() == 0


def test_a_plan_without_models_is_refused(standin: StandIn, free: Plan) -> None:
    with pytest.raises(PlanNotUsable, match="at least one model"):
        start(free, gateway_models=[])


def test_nonsense_limits_are_refused_and_nothing_changes(standin: StandIn, free: Plan) -> None:
    with pytest.raises(ValidationError):
        start(free, rpm=0)
    free.refresh_from_db()
    assert free.rpm == 20
    assert Rollout.objects.count() == 0


def test_a_plan_saved_elsewhere_is_rolled_out_all_the_same(
    standin: StandIn, crowd: list[User], free: Plan
) -> None:
    free.budget_cents = 300
    free.save()
    plan_changed.send(sender=None, plan=free, cause=CAUSE)
    rollouts.advance_all()
    assert budgets(standin) == [3] * 7
    assert Rollout.objects.get().before["budget_cents"] == 100


def test_users_with_a_share_of_the_rates_follow_an_edit_of_them(
    standin: StandIn, crowd: list[User], free: Plan
) -> None:
    entitle(crowd[0], free, limit_percent=50, grace_ends_at=timezone.now())
    sync()
    start(free, rpm=100)
    sync()
    assert standin.key(only_key(crowd[0])).rpm_limit == 50
    assert VirtualKey.objects.filter(generation=1).count() == 6

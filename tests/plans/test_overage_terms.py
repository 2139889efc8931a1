"""What becomes of paid usage beyond a plan when plan, subscription or cap change in mid-period."""

from datetime import timedelta

import pytest

from plans.catalogue import announce_plan_edit
from plans.entitlements import refresh_due
from plans.overage import set_cap
from tests.plans.stage import CAUSE, Stage

pytestmark = pytest.mark.django_db


def edit_plan(stage: Stage, **changes: int) -> None:
    for name, value in changes.items():
        setattr(stage.plan, name, value)
    stage.plan.save()
    announce_plan_edit(plan=stage.plan, changed=list(changes), cause=CAUSE)
    refresh_due(at=stage.now + timedelta(minutes=1))


@pytest.mark.parametrize("markup", [0, 50])
def test_another_markup_holds_from_the_next_period_on(stage: Stage, markup: int) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    edit_plan(stage, overage_markup_percent=markup)
    assert stage.entitlement.overage_cents == 1000
    stage.use("100")
    stage.send()
    assert stage.meter_total() == 1200
    stage.engine.advance(days=32)
    stage.read()
    assert stage.entitlement.overage_cents == 120_000 // (100 + markup)


def test_overage_that_a_plan_stops_to_allow_is_taken_from_its_holders(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    edit_plan(stage, overage_allowed=False)
    assert stage.entitlement.overage_cents == 0


def test_after_a_cap_was_taken_back_nothing_more_is_charged(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("11")
    set_cap(user=stage.user, cap_cents=0)
    stage.use("5")
    stage.send()
    assert stage.meter_total() == 120

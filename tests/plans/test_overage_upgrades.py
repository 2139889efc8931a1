"""Paid usage beyond a plan when the plan changes within a period: what was used stays used, what
was billed stays billed."""

from typing import Any

import pytest
from django.urls import reverse

from accounts.models import User
from plans.models import OverageWindow, Price
from plans.overage import set_cap
from tests.factories import PlanFactory, PlanGrantFactory, PriceFactory
from tests.plans.stage import Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def prices(stage: Stage) -> dict[str, Price]:
    """Pro with ten dollars included, Max with twenty."""
    made = stage.engine.create_price(unit_amount=5000, product_name="Max")
    plan = PlanFactory.create(
        code="max", rank=20, budget_cents=2000, overage_allowed=True, overage_markup_percent=20
    )
    return {
        "pro": stage.price,
        "max": PriceFactory.create(plan=plan, stripe_price_id=made["id"]),
    }


@pytest.mark.parametrize(
    ("used", "billed"),
    [
        # Beyond what the present plan includes, whatever the former one included.
        ("max 25", 600),
        # What was used of the former plan's budget is used of the present one's.
        ("pro 8, max 14", 240),
        # What was billed before is not used of it, and not billed again.
        ("pro 12, max 10", 240),
        ("pro 12, max 15", 840),
        # The cap is the whole period's.
        ("pro 12, max 30", 1200),
        ("pro 30, max 30", 1200),
        # After a way back, what was included when it was used stays included.
        ("max 18, pro 1", 120),
        ("pro 8, max 10, pro 2", 240),
    ],
)
def test_what_is_beyond_is_billed_across_a_change_of_plans(
    stage: Stage, prices: dict[str, Price], used: str, billed: int
) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    for step in used.split(", "):
        plan, dollars = step.split()
        if stage.entitlement.plan.code != plan:
            stage.move_to(prices[plan])
        stage.use(dollars, plan=plan)
    stage.send()
    assert stage.meter_total() == billed


def test_what_the_gateway_logs_late_belongs_to_the_plan_it_was_used_on(
    stage: Stage, prices: dict[str, Price]
) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.move_to(prices["max"])
    stage.use("15", plan="max")
    stage.use("8", plan="pro")
    stage.send()
    assert stage.meter_total() == 360


def test_a_plan_held_before_any_cap_was_set_counts_too(
    stage: Stage, prices: dict[str, Price], user: User
) -> None:
    """Not what was used by a grant or for nothing: that had budgets of its own."""
    PlanGrantFactory.create(user=user, plan=PlanFactory.create(code="gift", rank=1))
    for plan, dollars in (("pro", "8"), ("gift", "5"), ("free", "5")):
        stage.use(dollars, plan=plan)
    stage.move_to(prices["max"])
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("14", plan="max")
    stage.send()
    assert stage.meter_total() == 240


def test_a_period_of_two_plans_is_shown_as_one(
    stage: Stage, prices: dict[str, Price], api: Any, staff_client: Any
) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("12")
    stage.move_to(prices["max"])
    stage.use("9", plan="max")
    api.force_authenticate(stage.user)
    (shown,) = api.get("/api/billing/overage").json()["windows"]
    assert (shown["used"], shown["included_cents"]) == ("21.0000000000", 2000)
    assert shown["charged_cents"] == 240
    window = OverageWindow.objects.get()
    page = staff_client.get(reverse("admin:plans_overagewindow_change", args=[window.pk]))
    assert "12.0000000000" in page.content.decode()
    assert staff_client.get(reverse("admin:plans_overagewindow_changelist")).status_code == 200

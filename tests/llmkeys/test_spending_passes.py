"""Every half minute only what changed is looked at; the hourly pass finds what that missed."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from llmkeys import overage, tasks, usage_books
from llmkeys.models import SpendBudget, SpendLimit, UsageEntry, UsageHour
from llmkeys.spend_budgets import evaluate, evaluate_all, set_budget
from llmkeys.usage_books import Attribution
from llmkeys.usage_log import read_row
from plans.models import Customer, OverageWindow, Plan
from sandbox.litellm.routes_spend import shown
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory, MembershipFactory, PlanFactory, UserFactory
from tests.llmkeys.conftest import entitle
from tests.llmkeys.spendlog import call_of

pytestmark = pytest.mark.django_db
CAUSE = Cause.system("test")


@pytest.fixture
def plan(db: None) -> Plan:
    return PlanFactory.create(code="free", is_default=True, rank=0, budget_cents=1000)


def subscriber(plan: Plan, **fields: Any) -> User:
    user: User = UserFactory.create()
    start = timezone.now() - timedelta(days=3)
    given = {"period_start": start, "period_end": start + timedelta(days=30), **fields}
    entitle(user, plan, **given)
    return user


def budget_of(user: User, amount: int = 10, *, is_hard: bool = False) -> SpendBudget:
    row, _ = set_budget(
        user=user, amount=Decimal(amount), is_hard=is_hard, webhook_url="", cause=CAUSE
    )
    return row


def use(user: User, dollars: float, organization_id: int | None = None) -> None:
    at = timezone.now()
    call = call_of(None, at, input_cost=dollars, output_cost=0.0)
    whose = Attribution(user.pk, None, organization_id, "free")
    usage_books.write_calls([(read_row(shown(call, zone="Z")), whose)], at=at)


def queries(act: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as seen:
        act()
    return len(seen)


# Budgets


def test_a_pass_without_news_asks_one_question_whatever_the_number_of_budgets(plan: Plan) -> None:
    for _ in range(5):
        budget_of(subscriber(plan))

    assert evaluate() == 0
    # A savepoint around it, and its end.
    assert queries(evaluate) <= 3


def test_only_budgets_of_those_who_used_something_are_looked_at(plan: Plan) -> None:
    busy, idle = subscriber(plan), subscriber(plan)
    budget_of(idle)
    budget = budget_of(busy)
    use(busy, 6)

    assert evaluate() == 1
    assert [(note.budget_id, note.percent) for note in budget.notices.all()] == [(budget.pk, 50)]
    assert evaluate() == 0


def test_many_changed_budgets_are_summed_in_one_query(plan: Plan) -> None:
    users = [subscriber(plan) for _ in range(8)]
    for user in users:
        budget_of(user)
    use(users[0], 1)
    of_one = queries(evaluate)
    for user in users:
        use(user, 1)

    assert queries(evaluate) == of_one


def test_a_new_window_makes_a_budget_due(plan: Plan) -> None:
    user = subscriber(plan)
    budget = budget_of(user, is_hard=True)
    use(user, 12)
    evaluate()
    assert SpendBudget.objects.get().used_up_until is not None

    now = timezone.now()
    entitle(user, plan, period_start=now + timedelta(hours=1), period_end=now + timedelta(days=31))

    assert evaluate() == 1
    budget.refresh_from_db()
    assert budget.used_up_until is None


def test_the_end_of_a_window_makes_a_budget_due_by_itself(plan: Plan) -> None:
    user = subscriber(plan)
    budget_of(user)

    assert evaluate(at=timezone.now() + timedelta(days=26)) == 0
    assert evaluate(at=timezone.now() + timedelta(days=28)) == 1


def test_whoever_takes_or_leaves_a_seat_is_settled_at_once(plan: Plan) -> None:
    owner = MembershipFactory.create(role="owner")
    seat = MembershipFactory.create(user=subscriber(plan), organization=owner.organization)
    entitle(seat.user, plan, source="organization", source_id=seat.pk)
    set_budget(
        organization=owner.organization,
        amount=Decimal(1),
        is_hard=True,
        webhook_url="",
        cause=CAUSE,
    )
    use(seat.user, 2, owner.organization_id)
    evaluate()
    assert [limit.user_id for limit in SpendLimit.objects.all()] == [seat.user_id]

    newcomer = MembershipFactory.create(user=subscriber(plan), organization=owner.organization)
    entitle(newcomer.user, plan, source="organization", source_id=newcomer.pk)
    entitle(seat.user, plan, source="default", source_id=None)

    assert [limit.user_id for limit in SpendLimit.objects.all()] == [newcomer.user_id]


def test_the_hourly_pass_finds_what_nobody_marked(plan: Plan) -> None:
    user = subscriber(plan)
    budget = budget_of(user, is_hard=True)
    now = timezone.now()
    UsageHour.objects.create(
        hour=now.replace(minute=0, second=0, microsecond=0), user=user, cost=Decimal(9)
    )
    SpendLimit.objects.all().delete()
    stranger = subscriber(plan)
    SpendLimit.objects.create(user=stranger, limit=0)

    assert evaluate() == 0
    assert evaluate_all() == 1
    assert {note.percent for note in budget.notices.all()} == {50, 80}
    assert [(row.user_id, row.limit) for row in SpendLimit.objects.all()] == [
        (user.pk, Decimal(10))
    ]


# Overage


def payer(plan: Plan) -> User:
    """Who may go 20 dollars beyond the plan's 10."""
    user: User = UserFactory.create()
    CustomerFactory.create(user=user)
    start = timezone.now() - timedelta(days=3)
    entitle(
        user,
        plan,
        source="subscription",
        period_start=start,
        period_end=start + timedelta(days=30),
        overage_cents=2000,
    )
    return user


def test_an_allowance_opens_its_window_at_once(plan: Plan) -> None:
    user = payer(plan)

    window = OverageWindow.objects.get()
    assert (window.user_id, window.allowance_cents) == (user.pk, 2000)
    assert window.customer == Customer.objects.get(user=user)


def test_only_windows_whose_use_changed_are_measured(plan: Plan) -> None:
    busy, _ = payer(plan), payer(plan)
    assert overage.measure() == 2
    assert overage.measure() == 0
    without_news = queries(overage.measure)
    use(busy, 11)

    assert overage.measure() == 1
    assert OverageWindow.objects.get(user=busy).units_reported == 100
    assert queries(overage.measure) == without_news <= 4


def test_calls_of_another_period_leave_a_window_alone(plan: Plan) -> None:
    user = payer(plan)
    overage.measure()

    overage.note_use(
        [user.pk], timezone.now() - timedelta(days=9), timezone.now() - timedelta(days=8)
    )

    assert overage.measure() == 0


def test_the_hourly_pass_measures_what_nobody_marked(plan: Plan) -> None:
    user = payer(plan)
    overage.measure()
    OverageWindow.objects.filter(user=payer(plan)).delete()
    UsageEntry.objects.create(
        source="gateway",
        external_id="unmarked",
        started_at=timezone.now(),
        user=user,
        plan_code="free",
        cost=Decimal(15),
    )

    assert overage.measure() == 0
    tasks.check_spending()

    assert OverageWindow.objects.get(user=user).units_reported == 500
    assert OverageWindow.objects.count() == 2

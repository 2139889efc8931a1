"""What another price or other limits of a plan would have meant for days that are over.

Customers are taken to have behaved as they did: the figures say what the same calls would have
earned and cost, not who would have left or stayed.

* price: the plan's revenue in proportion;
* budget: what a customer used beyond it in the days looked at would have been refused;
* requests a minute: in each minute (from second 0) what went beyond it would have been refused, at
  the plan's average cost of a request;
* models taken out: their calls would have been refused.

A call counts as refused once, in this order: models, budget, then requests a minute.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from django.db.models import QuerySet, Sum

from accounts.models import User
from llmkeys.models import UsageDay
from plans.models import Plan
from plans.revenue_recognition import recognised
from tesslate.lib.sql import fetch
from tesslate.margin.figures import CENT, NOTHING, Line

HUNDRED = Decimal(100)
MOST_AFFECTED = 50

BUSY_MINUTES = """
    SELECT coalesce(sum(calls - %(rpm)s), 0), count(DISTINCT user_id) FROM (
        SELECT user_id, count(*) AS calls FROM chatproxy_chatrequest
        WHERE plan_code = %(plan)s AND started_at >= %(start)s AND started_at < %(end)s
            AND outcome IN ('completed', 'broken', 'abandoned') AND NOT model = ANY(%(without)s)
        GROUP BY user_id, date_trunc('minute', started_at)
        HAVING count(*) > %(rpm)s
    ) busy
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A plan as it might have been; None leaves things as they were."""

    plan: Plan
    price_percent: Decimal | None = None
    budget_cents: int | None = None
    rpm: int | None = None
    without_models: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Affected:
    """A customer whose calls would have been refused, and what those cost."""

    user: User
    used: Decimal
    refused: Decimal


@dataclass(frozen=True, slots=True)
class Outcome:
    before: Line
    after: Line
    # Customers of the plan who used it in these days, and those of them who would have noticed.
    users: int
    over_budget: int
    too_fast: int
    refused_by_rate: int
    affected: list[Affected]

    @property
    def difference(self) -> Decimal:
        return self.after.margin - self.before.margin


def what_if(change: Change, start: date, end: date) -> Outcome:
    """From ``start`` to ``end``, the last not included, in UTC."""
    earned = {row.group[0]: row.revenue for row in recognised(start, end, by=["plan_id"])}
    revenue = earned.get(change.plan.pk, NOTHING)
    rows = UsageDay.objects.filter(day__gte=start, day__lt=end, plan_code=change.plan.code)
    used = rows.order_by().aggregate(dollars=Sum("cost"), calls=Sum("requests"))
    cost, calls = used["dollars"] or NOTHING, used["calls"] or 0
    kept = rows.exclude(model__in=list(change.without_models)).order_by()
    per_user = [
        (user_id, dollars)
        for user_id, dollars in kept.values_list("user_id").annotate(dollars=Sum("cost"))
        if user_id is not None
    ]
    remaining = sum((dollars for _, dollars in per_user), NOTHING) + _nobodys(kept)
    over = _over_budget(per_user, change.budget_cents)
    refused = sum((beyond for _, _, beyond in over), NOTHING)
    by_rate, too_fast = _too_fast(change, start, end)
    average = cost / calls if calls else NOTHING
    after_cost = max(NOTHING, remaining - refused - by_rate * average)
    factor = HUNDRED if change.price_percent is None else change.price_percent
    after_revenue = (revenue * factor / HUNDRED).quantize(CENT, ROUND_HALF_EVEN)
    return Outcome(
        before=Line("As it was", revenue, cost, calls),
        after=Line("As it would have been", after_revenue, after_cost, calls),
        users=rows.exclude(user=None).values("user_id").distinct().count(),
        over_budget=len(over),
        too_fast=too_fast,
        refused_by_rate=by_rate,
        affected=_affected(over),
    )


Over = list[tuple[int, Decimal, Decimal]]


def _over_budget(per_user: list[tuple[int, Decimal]], budget_cents: int | None) -> Over:
    if budget_cents is None:
        return []
    budget = Decimal(budget_cents) / HUNDRED
    return [(user_id, used, used - budget) for user_id, used in per_user if used > budget]


def _nobodys(kept: QuerySet[UsageDay]) -> Decimal:
    found = kept.filter(user=None).aggregate(dollars=Sum("cost"))["dollars"]
    return Decimal(found or 0)


def _too_fast(change: Change, start: date, end: date) -> tuple[int, int]:
    """Requests beyond the limit, and customers who made them."""
    if change.rpm is None:
        return 0, 0
    [(refused, users)] = fetch(
        BUSY_MINUTES,
        {
            "rpm": change.rpm,
            "plan": change.plan.code,
            "start": datetime(start.year, start.month, start.day, tzinfo=UTC),
            "end": datetime(end.year, end.month, end.day, tzinfo=UTC),
            "without": list(change.without_models),
        },
    )
    return int(refused), users


def _affected(over: Over) -> list[Affected]:
    worst = sorted(over, key=lambda row: -row[2])[:MOST_AFFECTED]
    users = User.objects.in_bulk([user_id for user_id, _, _ in worst])
    return [Affected(users[user_id], used, beyond) for user_id, used, beyond in worst]

"""Revenue and cost side by side, in every way that staff ask for it. Amounts are US dollars."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from django.db.models import Sum

from accounts.models import Organization, User
from llmkeys.models import UsageDay
from plans.models import Customer, Plan
from plans.revenue_recognition import recognised

CENT = Decimal("0.01")
NOTHING = Decimal(0)
# (kind, id) of who pays: "user" or "organization", or nobody that we could name.
Payer = tuple[str, int | None]
NOBODY: Payer = ("nobody", None)


@dataclass(frozen=True, slots=True)
class Line:
    """One customer, plan, model or day. ``id`` is None for what belongs to none of them."""

    label: str
    revenue: Decimal
    cost: Decimal
    requests: int = 0
    kind: str = ""
    id: int | None = None

    @property
    def margin(self) -> Decimal:
        return self.revenue - self.cost

    @property
    def percent(self) -> int | None:
        """The margin's share of revenue; None where there is no revenue to have a share of."""
        return round(100 * self.margin / self.revenue) if self.revenue > 0 else None

    @property
    def costs_more_than_it_pays(self) -> bool:
        return self.cost > max(self.revenue, NOTHING)


@dataclass(frozen=True, slots=True)
class Spent:
    cost: Decimal = NOTHING
    requests: int = 0


def total(start: date, end: date) -> Line:
    """From ``start`` to ``end``, the last not included, in UTC. So everywhere here."""
    earned = recognised(start, end)[0].revenue
    spent = _spent(start, end, ())
    whole = spent.get((), Spent())
    return Line("All", earned, whole.cost, whole.requests)


def by_day(start: date, end: date) -> list[Line]:
    """Every day, those without anything included."""
    earned = {row.group[0]: row.revenue for row in recognised(start, end, by=["day"])}
    spent = _spent(start, end, ("day",))
    lines = []
    for n in range((end - start).days):
        day = start + timedelta(days=n)
        used = spent.get((day,), Spent())
        lines.append(Line(str(day), earned.get(day, NOTHING), used.cost, used.requests))
    return lines


def by_plan(start: date, end: date) -> list[Line]:
    """By plan; revenue of prices that no plan stands for, and cost of keys without one, last."""
    plans = {plan.pk: plan for plan in Plan.objects.order_by("rank")}
    ids = {plan.code: plan.pk for plan in plans.values()}
    earned: dict[int | None, Decimal] = {
        row.group[0]: row.revenue for row in recognised(start, end, by=["plan_id"])
    }
    spent: defaultdict[int | None, Spent] = defaultdict(Spent)
    for (code,), used in _spent(start, end, ("plan_code",)).items():
        spent[ids.get(code)] = _plus(spent[ids.get(code)], used)
    lines = [
        Line(
            plans[pk].name if pk is not None else "No plan of ours",
            earned.get(pk, NOTHING),
            spent[pk].cost,
            spent[pk].requests,
            "plan",
            pk,
        )
        for pk in [*plans, None]
    ]
    return [line for line in lines if line.revenue or line.cost or line.requests]


def by_customer(start: date, end: date) -> list[Line]:
    """By who pays, the largest loss first."""
    earned = _earned_by_payer(start, end)
    spent: defaultdict[Payer, Spent] = defaultdict(Spent)
    for (organization_id, user_id), used in _spent(
        start, end, ("organization_id", "user_id")
    ).items():
        payer = _payer(organization_id, user_id)
        spent[payer] = _plus(spent[payer], used)
    names = _names({*earned, *spent})
    lines = [
        Line(
            names.get(payer, "Keys that are not ours" if payer == NOBODY else f"{payer[1]}"),
            earned.get(payer, NOTHING),
            spent[payer].cost,
            spent[payer].requests,
            payer[0],
            payer[1],
        )
        for payer in {*earned, *spent}
    ]
    return sorted(lines, key=lambda line: (line.margin, line.label))


def losing(start: date, end: date) -> list[Line]:
    """Customers who pay, and cost more than they pay; the largest loss first."""
    customers = by_customer(start, end)
    return [line for line in customers if line.costs_more_than_it_pays and line.revenue > 0]


def by_model(start: date, end: date) -> list[Line]:
    """By model. A model has no price: what a customer paid is divided among the models that they
    used, by cost; what was paid by who used nothing stands apart. Sums equal the total."""
    earned = _earned_by_payer(start, end)
    spent: defaultdict[Payer, dict[str, Spent]] = defaultdict(dict)
    for (organization_id, user_id, model), used in _spent(
        start, end, ("organization_id", "user_id", "model")
    ).items():
        models = spent[_payer(organization_id, user_id)]
        models[model] = _plus(models.get(model, Spent()), used)
    revenue: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    cost: defaultdict[str | None, Spent] = defaultdict(Spent)
    for payer, amount in earned.items():
        weights = {name: used.cost for name, used in spent[payer].items() if used.cost > 0}
        for name, share in split(amount, weights).items():
            revenue[name] += share
    for models in spent.values():
        for name, used in models.items():
            cost[name] = _plus(cost[name], used)
    lines = [
        Line(
            "Paid without use" if name is None else name or "Without a model",
            revenue[name],
            cost[name].cost,
            cost[name].requests,
            "model",
        )
        for name in {*revenue, *cost}
    ]
    return sorted(
        (line for line in lines if line.revenue or line.cost or line.requests),
        key=lambda line: -line.cost,
    )


def split(amount: Decimal, weights: Mapping[str, Decimal]) -> dict[str | None, Decimal]:
    """Divide an amount by weights, in whole cents that sum to it; all to None without weights."""
    whole = sum(weights.values(), NOTHING)
    if not whole:
        return {None: amount}
    shares: dict[str | None, Decimal] = {}
    seen, given = NOTHING, NOTHING
    for name, weight in sorted(weights.items()):
        seen += weight
        upto = (amount * seen / whole).quantize(CENT, ROUND_HALF_EVEN) if seen < whole else amount
        shares[name] = upto - given
        given = upto
    return shares


def _earned_by_payer(start: date, end: date) -> dict[Payer, Decimal]:
    rows = recognised(start, end, by=["customer_id"])
    ids = [row.group[0] for row in rows]
    owners: dict[int | None, Payer] = {
        pk: _payer(organization_id, user_id)
        for pk, organization_id, user_id in Customer.objects.filter(pk__in=ids).values_list(
            "pk", "organization_id", "user_id"
        )
    }
    earned: defaultdict[Payer, Decimal] = defaultdict(Decimal)
    for row in rows:
        earned[owners.get(row.group[0], NOBODY)] += row.revenue
    return {payer: amount for payer, amount in earned.items() if amount}


def _payer(organization_id: int | None, user_id: int | None) -> Payer:
    if organization_id is not None:
        return ("organization", organization_id)
    return NOBODY if user_id is None else ("user", user_id)


def _spent(start: date, end: date, by: Sequence[str]) -> dict[tuple[Any, ...], Spent]:
    rows = UsageDay.objects.filter(day__gte=start, day__lt=end).order_by()
    if not by:
        found = rows.aggregate(dollars=Sum("cost"), calls=Sum("requests"))
        return {(): Spent(found["dollars"] or NOTHING, found["calls"] or 0)}
    sums = rows.values_list(*by).annotate(dollars=Sum("cost"), calls=Sum("requests"))
    return {row[:-2]: Spent(row[-2], row[-1]) for row in sums}


def _plus(one: Spent, other: Spent) -> Spent:
    return Spent(one.cost + other.cost, one.requests + other.requests)


def _names(payers: Iterable[Payer]) -> dict[Payer, str]:
    ids: defaultdict[str, list[int]] = defaultdict(list)
    for kind, pk in payers:
        if pk is not None:
            ids[kind].append(pk)
    names: dict[Payer, str] = {
        ("user", pk): email
        for pk, email in User.objects.filter(pk__in=ids["user"]).values_list("pk", "email")
    }
    for pk, name in Organization.objects.filter(pk__in=ids["organization"]).values_list(
        "pk", "name"
    ):
        names["organization", pk] = name
    return names

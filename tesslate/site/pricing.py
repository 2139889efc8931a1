"""The price list as the pricing page shows it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.urls import reverse

from plans.models import GatewayModel, Plan, Price
from plans.selectors import plans_on_sale
from tesslate.site.money import format_money

MONTH, YEAR = Price.Interval.MONTH.value, Price.Interval.YEAR.value
CURRENCY = "usd"


@dataclass(frozen=True, slots=True)
class Terms:
    """What one plan costs at one interval, in words."""

    amount: str
    per: str = ""
    note: str = ""
    # Stripe's, as the API names prices; empty for what is not sold at this interval.
    price_id: str = ""

    @property
    def sign_up_next(self) -> str:
        """Where sign-up leads: back to the price list, with this price in mind."""
        return f"{reverse('site:pricing')}?{urlencode({'buy': self.price_id})}"


@dataclass(slots=True)
class Offer:
    plan: Plan
    models: list[GatewayModel]
    # Beyond those of the plan before it; all of them for the first plan.
    new_models: list[GatewayModel]
    previous_name: str
    terms: dict[str, Terms]
    featured: bool = False
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class MatrixRow:
    model: GatewayModel
    included: list[bool]


@dataclass(slots=True)
class PriceList:
    offers: list[Offer] = field(default_factory=list)
    matrix: list[MatrixRow] = field(default_factory=list)
    has_yearly: bool = False
    # Whole percent saved by paying yearly, the best of all plans.
    yearly_saving: int = 0


def price_list(*, current_plan: Plan | None) -> PriceList:
    """All public plans by rank, with the prices on sale. Three queries."""
    plans = list(plans_on_sale().order_by("rank"))
    prices: dict[int, dict[str, Price]] = defaultdict(dict)
    for plan in plans:
        for price in plan.prices_on_sale:  # type: ignore[attr-defined]
            if price.currency == CURRENCY:
                prices[plan.pk][price.interval] = price
    offers = _offers(plans, prices, current_plan)
    if paid := [offer for offer in offers if not offer.plan.is_default]:
        paid[len(paid) // 2 if len(paid) > 2 else 0].featured = True
    return PriceList(
        offers=offers,
        matrix=_matrix(offers),
        has_yearly=any(YEAR in by_interval for by_interval in prices.values()),
        yearly_saving=max((yearly_saving(each) for each in prices.values()), default=0),
    )


def _offers(
    plans: list[Plan], prices: dict[int, dict[str, Price]], current_plan: Plan | None
) -> list[Offer]:
    offers: list[Offer] = []
    for plan in plans:
        models: list[GatewayModel] = plan.available_models  # type: ignore[attr-defined]
        before = offers[-1] if offers else None
        includes_it = before is not None and set(before.models) <= set(models)
        offers.append(
            Offer(
                plan=plan,
                models=models,
                new_models=[
                    model
                    for model in models
                    if before is None or not includes_it or model not in before.models
                ],
                previous_name=before.plan.name if before is not None and includes_it else "",
                terms={
                    interval: _terms(plan, prices[plan.pk], interval) for interval in (MONTH, YEAR)
                },
                is_current=current_plan is not None and plan.pk == current_plan.pk,
            )
        )
    return offers


def _terms(plan: Plan, prices: dict[str, Price], interval: str) -> Terms:
    price = prices.get(interval)
    if price is None:
        if plan.is_default:
            return Terms(amount="Free", note="No card needed")
        return Terms(amount="–")
    if interval == MONTH:
        note = (
            f"{plan.trial_days} days free, then billed monthly"
            if plan.trial_days
            else "Billed monthly"
        )
        return Terms(
            _amount(price.unit_amount, price), "a month", note, price.stripe_price_id or ""
        )
    per_month = price.unit_amount // 12
    return Terms(
        amount=_amount(per_month, price),
        per="a month",
        note=f"{_amount(price.unit_amount, price)} billed yearly",
        price_id=price.stripe_price_id or "",
    )


def _amount(amount: int, price: Price) -> str:
    return format_money(amount, price.currency)


def yearly_saving(prices: dict[str, Price]) -> int:
    """Whole percent that the yearly price saves over twelve monthly ones."""
    if MONTH not in prices or YEAR not in prices:
        return 0
    monthly = prices[MONTH].unit_amount * 12
    return max(0, (monthly - prices[YEAR].unit_amount) * 100 // monthly) if monthly else 0


def _matrix(offers: Iterable[Offer]) -> list[MatrixRow]:
    """Models by the first plan that has them, cheapest plan first."""
    columns = [{model.pk for model in offer.models} for offer in offers]
    rows: dict[int, MatrixRow] = {}
    for offer in offers:
        for model in offer.models:
            if model.pk not in rows:
                rows[model.pk] = MatrixRow(model, [model.pk in column for column in columns])
    return list(rows.values())

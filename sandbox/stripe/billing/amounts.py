"""What a quantity of a price costs, and what a part of a period costs. Integer cents throughout."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Json = dict[str, Any]


def rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def total(price: Json, quantity: int) -> int:
    """The price of `quantity` units, by unit or by tier."""
    if price["billing_scheme"] == "tiered":
        return _tiered(price["_tiers"], price["tiers_mode"], quantity)
    return rounded(Decimal(price["unit_amount_decimal"]) * quantity)


def _tiered(tiers: list[Json], mode: str, quantity: int) -> int:
    due, below = Decimal(0), 0
    for tier in tiers:
        top = tier["up_to"] if tier["up_to"] is not None else max(quantity, below)
        units = quantity if mode == "volume" else max(0, min(quantity, top) - below)
        reached = quantity <= top if mode == "volume" else units > 0
        if reached:
            due += Decimal(tier["unit_amount_decimal"] or 0) * units + (tier["flat_amount"] or 0)
        if quantity <= top:
            break
        below = top
    return rounded(due)


def share(amount: int, start: int, end: int, moment: int) -> int:
    """The part of `amount` that belongs to what remains of a period at `moment`."""
    if end <= start:
        return 0
    return rounded(Decimal(amount) * (end - max(moment, start)) / (end - start))


def fee(amount: int, percent: float, fixed: int) -> int:
    return rounded(Decimal(amount) * Decimal(str(percent)) / 100) + fixed


def money(amount: int, currency: str) -> str:
    """For people: `$20.00`, `¥500`."""
    symbols = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}
    sign = "-" if amount < 0 else ""
    symbol = symbols.get(currency, currency.upper() + " ")
    if currency in ZERO_DECIMAL:
        return f"{sign}{symbol}{abs(amount):,}"
    return f"{sign}{symbol}{abs(amount) / 100:,.2f}"


# https://docs.stripe.com/currencies#zero-decimal
ZERO_DECIMAL = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf".split()  # noqa: SIM905
)

"""Currencies' smallest units, as Stripe counts in them."""

from decimal import Decimal

# https://docs.stripe.com/currencies: amounts of these have no, or three, decimals.
ZERO_DECIMAL = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv"}
    | {"xaf", "xof", "xpf"}
)
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})


def decimals(currency: str) -> int:
    currency = currency.lower()
    return 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2


def major(amount: int, currency: str) -> Decimal:
    """``1950, "usd"`` → 19.50; ``500, "jpy"`` → 500; ``1234, "kwd"`` → 1.234."""
    return Decimal(amount).scaleb(-decimals(currency))


def dollars(amount: Decimal) -> str:
    """US dollars with cents; an amount below a cent is not shown as nothing."""
    if 0 < amount < Decimal("0.01"):
        return "under $0.01"
    return f"${amount:,.2f}"

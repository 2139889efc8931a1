"""Amounts as people write them."""

# https://docs.stripe.com/currencies: amounts of these have no, or three, decimals.
ZERO_DECIMAL = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv"}
    | {"xaf", "xof", "xpf"}
)
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


def format_money(amount: int, currency: str = "usd") -> str:
    """``1900, "usd"`` → ``$19``; ``1950, "eur"`` → ``€19.50``; ``500, "chf"`` → ``CHF 5``.

    ``amount`` is in the currency's smallest unit, as Stripe has it.
    """
    currency = currency.lower()
    decimals = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    whole, rest = divmod(abs(amount), 10**decimals)
    number = f"{whole:,}" + (f".{rest:0{decimals}d}" if rest else "")
    symbol = SYMBOLS.get(currency, f"{currency.upper()} ")
    return f"{'-' if amount < 0 else ''}{symbol}{number}"

"""Amounts as people write them."""

from tesslate.lib.currencies import decimals

SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


def format_money(amount: int, currency: str = "usd") -> str:
    """``1900, "usd"`` → ``$19``; ``1950, "eur"`` → ``€19.50``; ``500, "chf"`` → ``CHF 5``.

    ``amount`` is in the currency's smallest unit, as Stripe has it.
    """
    currency = currency.lower()
    digits = decimals(currency)
    whole, rest = divmod(abs(amount), 10**digits)
    number = f"{whole:,}" + (f".{rest:0{digits}d}" if rest else "")
    symbol = SYMBOLS.get(currency, f"{currency.upper()} ")
    return f"{'-' if amount < 0 else ''}{symbol}{number}"

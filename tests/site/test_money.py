import pytest

from tesslate.site.money import format_money


@pytest.mark.parametrize(
    ("amount", "currency", "words"),
    [
        (1900, "usd", "$19"),
        (1950, "usd", "$19.50"),
        (123_456_705, "usd", "$1,234,567.05"),
        (-500, "eur", "-€5"),
        (1900, "jpy", "¥1,900"),
        (1900, "kwd", "KWD 1.900"),
        (500, "CHF", "CHF 5"),
        (0, "usd", "$0"),
    ],
)
def test_amounts_read_as_people_write_them(amount, currency, words):
    assert format_money(amount, currency) == words

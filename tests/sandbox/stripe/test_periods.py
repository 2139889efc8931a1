from datetime import UTC, datetime

import pytest

from sandbox.stripe.periods import period_at, shifted


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_B37_month_from_the_31st_ends_on_the_last_day_and_returns_to_the_31st():
    anchor = at("2026-01-31T10:00")
    renewals = [shifted(anchor, "month", n) for n in range(1, 5)]
    assert renewals == [
        at("2026-02-28T10:00"),
        at("2026-03-31T10:00"),
        at("2026-04-30T10:00"),
        at("2026-05-31T10:00"),
    ]


def test_B37_year_from_a_leap_day_renews_on_28_february_until_the_next_leap_year():
    anchor = at("2024-02-29T00:00")
    renewals = [shifted(anchor, "year", n) for n in range(1, 5)]
    assert renewals[:3] == [at(f"{year}-02-28T00:00") for year in (2025, 2026, 2027)]
    assert renewals[3] == at("2028-02-29T00:00")


@pytest.mark.parametrize(
    ("interval", "count", "end"),
    [
        ("day", 1, "2026-03-02T00:00"),
        ("week", 2, "2026-03-15T00:00"),
        ("month", 3, "2026-06-01T00:00"),
        ("year", 1, "2027-03-01T00:00"),
    ],
)
def test_period_lasts_as_long_as_its_interval_says(interval: str, count: int, end: str):
    anchor = at("2026-03-01T00:00")
    assert period_at(anchor, interval, count, anchor) == (anchor, at(end))
    assert period_at(anchor, interval, count, at(end) - 1) == (anchor, at(end))
    assert period_at(anchor, interval, count, at(end))[0] == at(end)


def test_period_holds_every_moment_of_forty_years():
    anchor = at("2023-12-31T23:59:59")
    end = anchor
    for _ in range(480):
        start, end = period_at(anchor, "month", 1, end)
        assert start < end <= start + 31 * 86_400


def test_moment_before_the_anchor_has_a_period_too():
    anchor = at("2026-03-31T00:00")
    assert period_at(anchor, "month", 1, at("2026-03-01T00:00")) == (
        at("2026-02-28T00:00"),
        anchor,
    )

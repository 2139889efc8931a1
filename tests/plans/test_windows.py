from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans.windows import Window, add_months, month_window, window_within

moments = st.datetimes(
    min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC)
)


def day(year: int, month: int, day_: int) -> datetime:
    return datetime(year, month, day_, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "months", "expected"),
    [
        (day(2026, 1, 31), 1, day(2026, 2, 28)),
        (day(2026, 1, 31), 2, day(2026, 3, 31)),
        (day(2028, 1, 31), 1, day(2028, 2, 29)),
        (day(2028, 2, 29), 12, day(2029, 2, 28)),
        (day(2028, 2, 29), 48, day(2032, 2, 29)),
        (day(2026, 12, 15), 1, day(2027, 1, 15)),
    ],
)
def test_B37_months_are_counted_from_the_anchor(
    anchor: datetime, months: int, expected: datetime
) -> None:
    assert add_months(anchor, months) == expected


@given(anchor=moments, at=moments)
def test_B37_month_windows_hold_the_moment_and_join_without_gap(
    anchor: datetime, at: datetime
) -> None:
    window = month_window(anchor, at)
    assert window.start <= at < window.end
    assert month_window(anchor, window.end).start == window.end


def test_a_monthly_period_is_one_window() -> None:
    period = Window(day(2026, 1, 31), day(2026, 2, 28))
    assert window_within(period, day(2026, 2, 3)) == period


def test_B37_a_month_anchored_on_the_31st_is_one_window_from_february_too() -> None:
    period = Window(day(2026, 2, 28), day(2026, 3, 31))
    assert window_within(period, day(2026, 3, 29)) == period


def test_a_yearly_period_is_cut_into_months() -> None:
    year = Window(day(2026, 1, 31), day(2027, 1, 31))
    assert window_within(year, day(2026, 3, 1)) == (day(2026, 2, 28), day(2026, 3, 31))
    assert window_within(year, day(2027, 1, 30)) == (day(2026, 12, 31), day(2027, 1, 31))


def test_a_period_that_is_over_keeps_its_last_window_until_stripe_renews() -> None:
    year = Window(day(2026, 1, 31), day(2027, 1, 31))
    late = year.end + timedelta(days=1)
    assert window_within(year, late) == (day(2026, 12, 31), day(2027, 1, 31))


@given(start=moments, length=st.integers(1, 400), at=moments)
def test_windows_never_leave_the_paid_period(start: datetime, length: int, at: datetime) -> None:
    period = Window(start, start + timedelta(days=length))
    window = window_within(period, at)
    assert period.start <= window.start < window.end <= period.end

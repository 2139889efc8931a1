"""Budget windows: months counted from an anchor, in UTC.

Counting is always from the anchor, never from the previous window: an anchor on the 31st gives
the last day of short months and the 31st again afterwards.
"""

import calendar
from datetime import datetime, timedelta
from typing import NamedTuple

LONGEST_MONTH = timedelta(days=31)


class Window(NamedTuple):
    start: datetime
    end: datetime


def add_months(anchor: datetime, months: int) -> datetime:
    """The same day and time ``months`` later, or that month's last day where it is shorter."""
    month_index = anchor.year * 12 + anchor.month - 1 + months
    year, month = divmod(month_index, 12)
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    return anchor.replace(year=year, month=month + 1, day=day)


def month_window(anchor: datetime, at: datetime) -> Window:
    """The month counted from ``anchor`` that holds ``at`` (start inclusive, end exclusive)."""
    months = (at.year - anchor.year) * 12 + at.month - anchor.month
    if add_months(anchor, months) > at:
        months -= 1
    return Window(add_months(anchor, months), add_months(anchor, months + 1))


def window_within(period: Window, at: datetime) -> Window:
    """The part of a paid period that budgets count in.

    A period of up to a month is its own window. A longer one (yearly) is cut into months from
    its start, so that a yearly customer gets the plan's budget every month. Outside the period,
    the nearest part of it.
    """
    # By length: one anchored on the 31st runs from 28 February to 31 March.
    if period.end - period.start <= LONGEST_MONTH:
        return period
    inside = min(max(at, period.start), period.end - datetime.resolution)
    month = month_window(period.start, inside)
    return Window(month.start, min(month.end, period.end))

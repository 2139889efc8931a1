"""Calendar arithmetic of billing periods.

Stripe counts every period from the billing cycle anchor, not from the previous period: anchored on
31 January, a monthly subscription renews on 28 (or 29) February and on 31 March again
(https://docs.stripe.com/billing/subscriptions/billing-cycle). All of it in UTC.
"""

import calendar
from datetime import UTC, datetime, timedelta

DAY = 86_400
SECONDS = {"day": DAY, "week": 7 * DAY, "month": 30 * DAY, "year": 365 * DAY}


def shifted(moment: int, interval: str, count: int) -> int:
    """`moment` plus `count` intervals; a day that its month lacks becomes the month's last."""
    at = datetime.fromtimestamp(moment, UTC)
    if interval in ("day", "week"):
        return int((at + timedelta(days=count * (7 if interval == "week" else 1))).timestamp())
    months = at.year * 12 + at.month - 1 + count * (12 if interval == "year" else 1)
    year, month = months // 12, months % 12 + 1
    day = min(at.day, calendar.monthrange(year, month)[1])
    return int(at.replace(year=year, month=month, day=day).timestamp())


def period_at(anchor: int, interval: str, count: int, moment: int) -> tuple[int, int]:
    """The period, counted from `anchor`, that holds `moment`: start inclusive, end exclusive."""
    steps = (moment - anchor) // (SECONDS[interval] * count)
    while shifted(anchor, interval, steps * count) > moment:
        steps -= 1
    while shifted(anchor, interval, (steps + 1) * count) <= moment:
        steps += 1
    return shifted(anchor, interval, steps * count), shifted(anchor, interval, (steps + 1) * count)

"""LiteLLM's durations ("30s", "7d", "1mo") and how its budget windows snap to the calendar."""

import re
import time
from datetime import UTC, datetime, timedelta

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SHAPE = re.compile(r"(\d+)(s|m|h|d|w|mo)")


class DurationError(ValueError):
    """Not a duration; the text is LiteLLM's."""


class WindowError(DurationError):
    """Not a duration for a budget's window."""


def expiry(duration: str, now: float) -> float:
    """When a key with this `duration` expires. Raises DurationError."""
    match = SHAPE.fullmatch(duration)
    if match is None:
        if re.fullmatch(r"\d[\d.]*\w?", duration):
            raise DurationError(f"Unsupported duration unit, passed duration: {duration}")
        raise DurationError("Invalid duration format")
    count, unit = int(match[1]), match[2]
    if unit == "mo":
        # A month, for a key, runs from now; only budget windows follow the calendar.
        moment = datetime.fromtimestamp(now, UTC)
        return _add_months(moment, count).timestamp()
    return now + count * SECONDS[unit]


def budget_reset(duration: str, now: float) -> float:
    """The end of the budget window that `now` is in. Raises WindowError.

    `30d` and `1mo` end with the month, weeks on Monday, days at midnight UTC, hours, minutes and
    seconds at the next round one.
    """
    match = SHAPE.fullmatch(duration)
    if match is None or int(match[1]) == 0 or (match[2] == "mo" and match[1] != "1"):
        raise WindowError(
            f"Invalid budget_duration '{duration}'. Use a format like '1h', '24h', '7d', or '30d'."
        )
    count, unit = int(match[1]), match[2]
    moment = datetime.fromtimestamp(now, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "mo" or (unit, count) == ("d", 30):
        return _add_months(midnight.replace(day=1), 1).timestamp()
    if unit == "w":
        unit, count = "d", count * 7
    if (unit, count % 24) == ("h", 0):
        unit, count = "d", count // 24
    if unit == "d":
        start = midnight - timedelta(days=midnight.weekday() if count % 7 == 0 else 0)
        return (start + timedelta(days=count)).timestamp()
    step = count * SECONDS[unit]
    return (now // step + 1) * step


def iso(moment: float | None, *, zone: str = "+00:00") -> str | None:
    """A moment as LiteLLM prints it: to the millisecond, written as microseconds unless whole."""
    if moment is None:
        return None
    milliseconds = round(moment * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    rest = milliseconds % 1000
    return f"{whole}.{rest:03d}000{zone}" if rest else whole + zone


def _add_months(moment: datetime, count: int) -> datetime:
    month = moment.month - 1 + count
    year, month = moment.year + month // 12, month % 12 + 1
    days = (datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC) - timedelta(days=1)).day
    return moment.replace(year=year, month=month, day=min(moment.day, days))

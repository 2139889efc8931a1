"""Stretches of time that the front page counts and draws over. All of it in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
LONGEST_DAYS = 366


@dataclass(frozen=True, slots=True)
class Range:
    key: str
    label: str
    days: int


RANGES = (
    Range("1", "Today", 1),
    Range("7", "7 days", 7),
    Range("30", "30 days", 30),
    Range("90", "90 days", 90),
)
DEFAULT = RANGES[2]


@dataclass(frozen=True, slots=True)
class Period:
    """From the first day to the last one, both included."""

    key: str
    first: date
    last: date

    @property
    def start(self) -> datetime:
        return midnight(self.first)

    @property
    def end(self) -> datetime:
        return midnight(self.last) + DAY

    @property
    def is_short(self) -> bool:
        """Drawn by the hour, as days would be too few."""
        return self.last - self.first < 2 * DAY

    @property
    def steps(self) -> list[datetime]:
        step = HOUR if self.is_short else DAY
        return [self.start + n * step for n in range((self.end - self.start) // step)]

    def label(self, step: datetime) -> str:
        return f"{step:%H:%M}" if self.is_short else f"{step.day} {step:%b}"


def chosen_period(given: Mapping[str, str], at: datetime) -> Period:
    """What the address asks for: ``range`` in days, or ``from`` and ``to``. Nonsense is the
    default, the wrong way round is turned, and what is too long loses its beginning."""
    today = at.astimezone(UTC).date()
    try:
        first, last = (date.fromisoformat(given[name]) for name in ("from", "to"))
    except (KeyError, ValueError):
        chosen = next((each for each in RANGES if each.key == given.get("range")), DEFAULT)
        return Period(chosen.key, today - (chosen.days - 1) * DAY, today)
    first, last = sorted((min(first, today), min(last, today)))
    return Period("", max(first, last - (LONGEST_DAYS - 1) * DAY), last)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def same_time_last_month(at: datetime) -> datetime:
    """As far into last month as ``at`` is into this one; its end where it was shorter."""
    this = midnight(at.date().replace(day=1))
    return min((this - DAY).replace(day=1) + (at - this), this)

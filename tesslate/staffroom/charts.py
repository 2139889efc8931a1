"""The charts of the front page, over the hourly roll-up."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Max, Sum
from django.db.models.functions import TruncDay

from tesslate.staffroom.dashboard import DAY, users_by_plan
from tesslate.staffroom.models import HourlyTraffic

RANGES = {"7": 7, "30": 30, "90": 90}
DEFAULT_RANGE = "30"
PALETTE = ("#4f46e5", "#0d9488", "#d97706", "#db2777", "#0284c7", "#65a30d", "#9333ea", "#64748b")
# More than this and a chart says less.
MOST_SERIES = len(PALETTE) - 1


# None where there is nothing to measure, which is not the same as nought.
Value = float | None
Rows = Sequence[Mapping[str, Any]]
Series = list[tuple[str, list[Value]]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart, and the same as a table for those who cannot see it."""

    title: str
    kind: str  # line or bar
    labels: list[str]
    series: Series
    unit: str = ""
    stacked: bool = False

    @property
    def is_empty(self) -> bool:
        return not any(value for _, values in self.series for value in values)

    @property
    def data(self) -> str:
        """What Unfold's script gives to Chart.js."""
        datasets = [
            {
                "label": name,
                "data": values,
                "borderColor": PALETTE[at % len(PALETTE)],
                "backgroundColor": PALETTE[at % len(PALETTE)],
                "borderWidth": 2,
                "spanGaps": True,
            }
            for at, (name, values) in enumerate(self.series)
        ]
        return json.dumps({"labels": self.labels, "datasets": datasets})

    @property
    def options(self) -> str:
        axis: dict[str, Any] = {"stacked": self.stacked, "ticks": {"maxTicksLimit": 6}}
        return json.dumps(
            {
                "responsive": True,
                "maintainAspectRatio": False,
                "animation": False,
                "interaction": {"mode": "index", "intersect": False},
                "elements": {"point": {"radius": 2, "hitRadius": 8}, "line": {"tension": 0.25}},
                "datasets": {"bar": {"maxBarThickness": 48}},
                "plugins": {
                    "legend": {
                        "display": len(self.series) > 1,
                        "position": "bottom",
                        "labels": {"boxWidth": 10, "boxHeight": 10, "color": "#7b8196"},
                    }
                },
                "scales": {
                    "x": {
                        **axis,
                        "grid": {"display": False},
                        "ticks": {"maxTicksLimit": 8, "maxRotation": 0, "color": "#7b8196"},
                    },
                    "y": {
                        **axis,
                        "beginAtZero": True,
                        "grid": {"color": "rgba(128,128,140,.25)"},
                        "ticks": {"maxTicksLimit": 5, "color": "#7b8196"},
                    },
                },
            }
        )

    @property
    def rows(self) -> Series:
        return [
            (label, [values[at] for _, values in self.series])
            for at, label in enumerate(self.labels)
        ]


def charts(at: datetime, days: int) -> list[Chart]:
    first = (at - (days - 1) * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    dates = [first + at_day * DAY for at_day in range(days)]
    rows = list(
        HourlyTraffic.objects.filter(hour__gte=first)
        .annotate(day=TruncDay("hour"))
        .values("day", "model")
        .annotate(
            spend=Sum("cost"),
            total=Sum("requests"),
            refusals=Sum("refused"),
            failures=Sum("errors"),
            slow=Max("ttfb_p95_ms"),
            typical=Max("ttfb_p50_ms"),
        )
    )
    return [
        Chart(
            "Spend by model, US dollars a day",
            "bar",
            _day_names(dates),
            _by_model(rows, dates, "spend"),
            stacked=True,
        ),
        Chart("Customers by plan", "bar", *_plans_now(), stacked=True),
        Chart(
            "Time to the first token, ms, worst hour of the day",
            "line",
            _day_names(dates),
            [
                ("Half within", _per_day(rows, dates, "typical", max, None)),
                ("19 of 20 within", _per_day(rows, dates, "slow", max, None)),
            ],
        ),
        Chart(
            "Requests refused and failed",
            "bar",
            _day_names(dates),
            [
                ("Refused", _per_day(rows, dates, "refusals", sum)),
                ("Failed", _per_day(rows, dates, "failures", sum)),
            ],
            stacked=True,
        ),
    ]


def _plans_now() -> tuple[list[str], Series]:
    plans = users_by_plan()
    paying: list[Value] = [count for _, _, count in plans]
    others: list[Value] = [users - count for _, users, count in plans]
    return [plan.name for plan, _, _ in plans], [("Paying", paying), ("Not paying", others)]


def _day_names(dates: list[datetime]) -> list[str]:
    return [f"{date.day} {date:%b}" for date in dates]


def _by_model(rows: Rows, dates: list[datetime], name: str) -> Series:
    """One series for each of the largest models, the rest together."""
    totals: defaultdict[str, float] = defaultdict(float)
    cells: defaultdict[tuple[str, datetime], float] = defaultdict(float)
    for row in rows:
        totals[row["model"]] += float(row[name])
        cells[row["model"], row["day"]] += float(row[name])
    largest = sorted(totals, key=lambda model: -totals[model])
    series: Series = [
        (model, [round(cells[model, date], 4) for date in dates]) for model in largest[:MOST_SERIES]
    ]
    if rest := largest[MOST_SERIES:]:
        series.append(
            ("others", [round(sum(cells[model, date] for model in rest), 4) for date in dates])
        )
    return series


def _per_day(
    rows: Rows,
    dates: list[datetime],
    name: str,
    together: Any,
    empty: Value = 0,
) -> list[Value]:
    per_day: defaultdict[datetime, list[float]] = defaultdict(list)
    for row in rows:
        if row[name] is not None:
            per_day[row["day"]].append(float(row[name]))
    return [together(per_day[date]) if per_day[date] else empty for date in dates]

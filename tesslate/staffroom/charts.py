"""The charts of the front page, over the hourly roll-up."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import F, FloatField, Q, Sum
from django.db.models.functions import TruncDay

from tesslate.staffroom.dashboard import users_by_plan
from tesslate.staffroom.models import HourlyTraffic
from tesslate.staffroom.periods import Period

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


def charts(period: Period) -> list[Chart]:
    steps, labels = period.steps, [period.label(step) for step in period.steps]
    rows = _rows(period)
    a_step = "an hour" if period.is_short else "a day"
    return [
        Chart(
            f"Spend by model, US dollars {a_step}",
            "bar",
            labels,
            _by_model(rows, steps, "spend"),
            stacked=True,
        ),
        Chart("Customers by plan", "bar", *_plans_now(), stacked=True),
        Chart(
            "Time to the first token, ms",
            "line",
            labels,
            [
                ("Half within", _typical(rows, steps, "half")),
                ("19 of 20 within", _typical(rows, steps, "most")),
            ],
        ),
        Chart(
            "Requests refused and failed",
            "bar",
            labels,
            [
                ("Refused", _summed(rows, steps, "refusals")),
                ("Failed", _summed(rows, steps, "failures")),
            ],
            stacked=True,
        ),
    ]


def _rows(period: Period) -> Rows:
    """One row for each step and model. Latencies are summed by request, to be divided again:
    hours with many requests count for more."""
    timed = Q(ttfb_p50_ms__isnull=False)
    return list(
        HourlyTraffic.objects.filter(hour__gte=period.start, hour__lt=period.end)
        .annotate(step=F("hour") if period.is_short else TruncDay("hour", tzinfo=UTC))
        .values("step", "model")
        .annotate(
            spend=Sum("cost"),
            refusals=Sum("refused"),
            failures=Sum("errors"),
            timed=Sum("requests", filter=timed),
            half=Sum(F("ttfb_p50_ms") * F("requests"), output_field=FloatField()),
            most=Sum(F("ttfb_p95_ms") * F("requests"), output_field=FloatField()),
        )
    )


def _plans_now() -> tuple[list[str], Series]:
    plans = users_by_plan()
    paying: list[Value] = [count for _, _, count in plans]
    others: list[Value] = [users - count for _, users, count in plans]
    return [plan.name for plan, _, _ in plans], [("Paying", paying), ("Not paying", others)]


def _by_model(rows: Rows, dates: list[datetime], name: str) -> Series:
    """One series for each of the largest models that have any, the rest together."""
    totals: defaultdict[str, float] = defaultdict(float)
    cells: defaultdict[tuple[str, datetime], float] = defaultdict(float)
    for row in rows:
        totals[row["model"]] += float(row[name])
        cells[row["model"], row["step"]] += float(row[name])
    largest = sorted(filter(totals.get, totals), key=lambda model: -totals[model])
    series: Series = [
        (model, [round(cells[model, date], 4) for date in dates]) for model in largest[:MOST_SERIES]
    ]
    if rest := largest[MOST_SERIES:]:
        series.append(
            ("others", [round(sum(cells[model, date] for model in rest), 4) for date in dates])
        )
    return series


def _summed(rows: Rows, steps: list[datetime], name: str) -> list[Value]:
    sums: defaultdict[datetime, float] = defaultdict(float)
    for row in rows:
        sums[row["step"]] += float(row[name])
    return [sums[step] for step in steps]


def _typical(rows: Rows, steps: list[datetime], name: str) -> list[Value]:
    """The mean over the hours of a step; nothing where nothing was answered."""
    sums: defaultdict[datetime, float] = defaultdict(float)
    counts: defaultdict[datetime, int] = defaultdict(int)
    for row in rows:
        if row["timed"]:
            sums[row["step"]] += float(row[name])
            counts[row["step"]] += row["timed"]
    return [round(sums[step] / counts[step]) if counts[step] else None for step in steps]

"""Who and what earns money, who costs more than they pay, and what a change would have meant."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from chatproxy.usage_csv import harmless
from plans.models import GatewayModel, Plan
from plans.revenue_recognition import caveats
from tesslate.margin import figures
from tesslate.margin.figures import Line
from tesslate.margin.what_if import Change, what_if
from tesslate.staffroom.charts import Chart
from tesslate.staffroom.customers_views import require, staff_page

PERMISSION = "plans.view_revenueitem"
DAY = timedelta(days=1)
LONGEST = timedelta(days=400)
SHOWN = 50

TABLES: dict[str, Callable[[date, date], list[Line]]] = {
    "customers": figures.by_customer,
    "losses": figures.losing,
    "plans": figures.by_plan,
    "models": figures.by_model,
    "days": figures.by_day,
}

COLUMNS = {"losses": "customer"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days in UTC, the last not included."""

    start: date
    end: date

    @property
    def last(self) -> date:
        return self.end - DAY


def presets(today: date) -> dict[str, Stretch]:
    month = today.replace(day=1)
    before = (month - DAY).replace(day=1)
    return {
        "7 days": Stretch(today - 6 * DAY, today + DAY),
        "30 days": Stretch(today - 29 * DAY, today + DAY),
        "90 days": Stretch(today - 89 * DAY, today + DAY),
        "This month": Stretch(month, today + DAY),
        "Last month": Stretch(before, month),
    }


class StretchForm(forms.Form):
    start = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))
    end = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        start, end = data.get("start"), data.get("end")
        if start and end and not DAY <= end + DAY - start <= LONGEST:
            raise forms.ValidationError("From a first to a last day, at most 400 days.")
        return data


def _stretch(request: HttpRequest) -> tuple[Stretch, StretchForm]:
    """What was asked for, or 30 days. The form's last day is included."""
    default = presets(timezone.now().date())["30 days"]
    if "start" not in request.GET and "end" not in request.GET:
        return default, StretchForm({"start": default.start, "end": default.last})
    form = StretchForm(request.GET)
    if not form.is_valid():
        return default, form
    return Stretch(form.cleaned_data["start"], form.cleaned_data["end"] + DAY), form


@require_safe
def margin(request: HttpRequest) -> HttpResponse:
    require(request, PERMISSION)
    stretch, form = _stretch(request)
    wanted = request.GET.get("csv", "")
    if wanted in TABLES:
        return _csv(wanted, stretch)
    days = figures.by_day(stretch.start, stretch.end)
    customers = figures.by_customer(stretch.start, stretch.end)
    return staff_page(
        request,
        "margin.html",
        title="Margin",
        stretch=stretch,
        form=form,
        presets=presets(timezone.now().date()),
        total=figures.total(stretch.start, stretch.end),
        caveats=caveats(stretch.start, stretch.end),
        charts=_charts(days),
        losing=figures.losing(stretch.start, stretch.end),
        customers=customers[:SHOWN],
        more=max(0, len(customers) - SHOWN),
        plans=figures.by_plan(stretch.start, stretch.end),
        models=figures.by_model(stretch.start, stretch.end),
    )


def _charts(days: list[Line]) -> list[Chart]:
    labels = [f"{int(day.label[8:])} {date.fromisoformat(day.label):%b}" for day in days]

    def series(read: Callable[[Line], Any]) -> list[float | None]:
        return [round(float(read(day)), 4) for day in days]

    return [
        Chart(
            "Revenue and cost, US dollars a day",
            "bar",
            labels,
            [
                ("Revenue", series(lambda day: day.revenue)),
                ("Gateway cost", series(lambda day: day.cost)),
            ],
        ),
        Chart(
            "Margin, US dollars a day",
            "line",
            labels,
            [("Margin", series(lambda day: day.margin))],
        ),
    ]


def _csv(table: str, stretch: Stretch) -> HttpResponse:
    name = f"margin-{table}-{stretch.start}-{stretch.last}.csv"
    response = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
    writer = csv.writer(response)
    writer.writerow(
        [COLUMNS.get(table, table[:-1]), "revenue_usd", "cost_usd", "margin_usd", "requests"]
    )
    for line in TABLES[table](stretch.start, stretch.end):
        writer.writerow([harmless(line.label), line.revenue, line.cost, line.margin, line.requests])
    return response


class WhatIfForm(forms.Form):
    plan = forms.ModelChoiceField(Plan.objects.order_by("rank"), empty_label=None)
    price_percent = forms.DecimalField(
        label="Price, % of the present one", min_value=0, max_value=10_000, required=False
    )
    budget = forms.DecimalField(
        label="Budget a customer, US dollars", min_value=0, decimal_places=2, required=False
    )
    rpm = forms.IntegerField(label="Requests a minute", min_value=1, required=False)
    without = forms.ModelMultipleChoiceField(
        GatewayModel.objects.order_by("name"),
        label="Without these models",
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )


@require_safe
def simulation(request: HttpRequest) -> HttpResponse:
    """Over last month unless other days are asked for."""
    require(request, PERMISSION)
    stretch, days = _stretch(request)
    if "start" not in request.GET:
        stretch = presets(timezone.now().date())["Last month"]
        days = StretchForm({"start": stretch.start, "end": stretch.last})
    form = WhatIfForm(request.GET) if "plan" in request.GET else WhatIfForm()
    outcome = None
    if form.is_bound and form.is_valid() and days.is_valid():
        data = form.cleaned_data
        change = Change(
            plan=data["plan"],
            price_percent=data["price_percent"],
            budget_cents=None if data["budget"] is None else int(data["budget"] * 100),
            rpm=data["rpm"],
            without_models=[model.name for model in data["without"]],
        )
        outcome = what_if(change, stretch.start, stretch.end)
    return staff_page(
        request,
        "what_if.html",
        title="What if",
        form=form,
        days=days,
        stretch=stretch,
        presets=presets(timezone.now().date()),
        outcome=outcome,
    )

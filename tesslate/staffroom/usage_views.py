"""Where the gateway's log and our ledger differ, and why."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from chatproxy.models import UsageCheck, UsageComparison
from chatproxy.usage_models import UNEXPLAINED
from llmkeys.models import UsageImport
from tesslate.staffroom.customers_views import require, staff_page

DAYS_SHOWN = 31
ROWS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class CheckedDay:
    """One line of the overview, in US dollars."""

    check: UsageCheck
    # What the gateway's daily sums count and its log does not hold.
    dropped: Decimal | None

    @property
    def difference(self) -> Decimal:
        return self.check.gateway_cost - self.check.ledger_cost

    @property
    def is_clean(self) -> bool:
        return self.check.unexplained_requests == 0 and not self.dropped


@dataclass(frozen=True, slots=True)
class ComparedRow:
    row: UsageComparison
    is_explained: bool

    @property
    def difference(self) -> Decimal:
        return self.row.gateway_cost - self.row.ledger_cost


# LiteLLM adds floats up; less than this is rounding.
ROUNDING = Decimal("0.000001")


@require_safe
def usage_differences(request: HttpRequest) -> HttpResponse:
    """The days, and of the chosen one every user and model, what is unexplained first."""
    require(request, "chatproxy.view_usagecheck")
    days = [_checked(check) for check in UsageCheck.objects.all()[:DAYS_SHOWN]]
    chosen = _chosen(request, days)
    rows = [] if chosen is None else _rows(chosen.check)
    return staff_page(
        request,
        "usage_differences.html",
        title="Usage: gateway and ledger",
        days=days,
        chosen=chosen,
        rows=rows[:ROWS_SHOWN],
        hidden=max(0, len(rows) - ROWS_SHOWN),
        imports=UsageImport.objects.all(),
    )


def _checked(check: UsageCheck) -> CheckedDay:
    if check.counted_cost is None:
        return CheckedDay(check, None)
    dropped = check.counted_cost - check.gateway_cost
    return CheckedDay(check, dropped if abs(dropped) > ROUNDING else Decimal(0))


def _chosen(request: HttpRequest, days: list[CheckedDay]) -> CheckedDay | None:
    try:
        wanted = date.fromisoformat(request.GET.get("day", ""))
    except ValueError:
        return days[0] if days else None
    return next((day for day in days if day.check.day == wanted), None)


def _rows(check: UsageCheck) -> list[ComparedRow]:
    rows = [
        ComparedRow(row, row.kind not in UNEXPLAINED)
        for row in check.comparisons.select_related("user")
    ]
    return sorted(rows, key=lambda found: (found.is_explained, -abs(found.difference)))

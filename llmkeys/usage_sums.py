"""Read the sums of usage: what the gateway asked for, by the hour at the finest."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import QuerySet, Sum
from django.db.models.functions import TruncDay

from accounts.models import Organization, User
from llmkeys.models import UsageHour, UsageImport

GROUPS = ("model", "day", "hour", "plan", "provider", "user")
_COLUMNS = {"plan": "plan_code", "user": "user__email"}
_SUMS: dict[str, Any] = {
    "calls": Sum("requests"),
    "failures": Sum("failed"),
    "prompt": Sum("prompt_tokens"),
    "completion": Sum("completion_tokens"),
    "dollars": Sum("cost"),
    "given_back": Sum("credited"),
    "priceless": Sum("unpriced"),
}


@dataclass(frozen=True, slots=True)
class UsageSums:
    """Money in US dollars: what calls cost, and what staff gave back of it."""

    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    credited: Decimal
    unpriced: int

    @property
    def billed(self) -> Decimal:
        """What counts against budgets and as overage."""
        return max(Decimal(0), self.cost - self.credited)


def hours_of_user(user: User, start: datetime, end: datetime) -> QuerySet[UsageHour]:
    """Whole hours: a call belongs to the hour in which it began, an hour to the stretch that it
    begins in."""
    return UsageHour.objects.filter(user=user, hour__gte=_hour(start), hour__lt=end).order_by()


def hours_of_organization(
    organization: Organization, start: datetime, end: datetime
) -> QuerySet[UsageHour]:
    """Of all members, as far as they used the organization's seats."""
    rows = UsageHour.objects.filter(organization=organization)
    return rows.filter(hour__gte=_hour(start), hour__lt=end).order_by()


def total(hours: QuerySet[UsageHour]) -> UsageSums:
    return _sums(hours.aggregate(**_SUMS))


def grouped(
    hours: QuerySet[UsageHour], group: str, *, zone: tzinfo = UTC
) -> list[tuple[str, UsageSums]]:
    """By one of GROUPS; days are those of ``zone``."""
    if group == "day":
        hours = hours.annotate(day=TruncDay("hour", tzinfo=zone))
    column = _COLUMNS.get(group, group)
    rows = hours.values(column).annotate(**_SUMS).order_by(column)
    return [(_label(row[column], group), _sums(row)) for row in rows]


def read_until() -> datetime | None:
    """Until when the gateway's log is on our books; None before it was first read."""
    state = UsageImport.objects.filter(gateway_url=settings.LITELLM_URL).first()
    return None if state is None else state.read_until


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _sums(row: dict[str, Any]) -> UsageSums:
    return UsageSums(
        requests=row["calls"] or 0,
        failed=row["failures"] or 0,
        prompt_tokens=row["prompt"] or 0,
        completion_tokens=row["completion"] or 0,
        cost=row["dollars"] or Decimal(0),
        credited=row["given_back"] or Decimal(0),
        unpriced=row["priceless"] or 0,
    )


def _label(value: object, group: str) -> str:
    if isinstance(value, datetime):
        return value.date().isoformat() if group == "day" else value.isoformat()
    return "" if value is None else str(value)

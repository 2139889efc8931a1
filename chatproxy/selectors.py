"""What was used: read from our own ledger.

A user's window in total, by model, outcome or day is one index-only scan of the months it touches;
by plan it reads those rows. `make bench ONLY=ledger` shows the plans at size.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDay

from accounts.models import User
from chatproxy.exchange import began_at
from chatproxy.models import ChatRequest

Outcome = ChatRequest.Outcome

GROUPS = ("model", "day", "plan", "outcome")
# A request that was refused or failed used nothing, and is counted apart.
ANSWERED = Q(outcome__in=[Outcome.COMPLETED, Outcome.BROKEN, Outcome.ABANDONED])


@dataclass(frozen=True, slots=True)
class Totals:
    requests: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    # US dollars at the gateway.
    cost: Decimal
    # Answered requests that nobody could put a price on; they are not in ``cost``.
    unpriced: int
    # US dollars that staff gave back; known to the gateway's books alone.
    credited: Decimal = Decimal(0)


def requests_in(user: User, start: datetime, end: datetime) -> QuerySet[ChatRequest]:
    """Requests that began in [start, end): a request belongs to the window of its start."""
    return ChatRequest.objects.filter(
        user_id=user.pk, started_at__gte=start, started_at__lt=end
    ).order_by()


def usage_in_period(user: User, start: datetime, end: datetime) -> Totals:
    return _totals(requests_in(user, start, end).aggregate(**_SUMS))


def usage_by(
    user: User, start: datetime, end: datetime, *, group: str, zone: tzinfo = UTC
) -> list[tuple[str, Totals]]:
    """Totals per model, plan, outcome, or day of the caller's own time zone; largest key last."""
    rows = requests_in(user, start, end)
    column = {"plan": "plan_code"}.get(group, group)
    if group == "day":
        rows = rows.annotate(day=TruncDay("started_at", tzinfo=zone))
    grouped = rows.values(column).annotate(**_SUMS).order_by(column)
    return [(_label(row[column]), _totals(row)) for row in grouped]


def find_request(public_id: str) -> ChatRequest | None:
    """By ``req_…``; the id carries its time, so one partition is looked at."""
    try:
        request_id = uuid.UUID(hex=public_id.removeprefix("req_"))
    except ValueError:
        return None
    at = began_at(request_id)
    if at is None:
        return None
    near = timedelta(milliseconds=1)
    rows = ChatRequest.objects.order_by().filter(id=request_id)
    return rows.filter(started_at__gte=at - near, started_at__lte=at + near).first()


# Counted by a column that every index holds, as none does the id.
_SUMS: dict[str, Any] = {
    "requests": Count("started_at", filter=ANSWERED),
    "refused": Count("started_at", filter=~ANSWERED & ~Q(outcome=Outcome.REPLAYED)),
    "prompt": Sum("prompt_tokens"),
    "completion": Sum("completion_tokens"),
    "dollars": Sum("cost"),
    "unpriced": Count(
        "started_at", filter=ANSWERED & Q(cost=None) & ~Q(prompt_tokens=0, completion_tokens=0)
    ),
}


def _totals(row: dict[str, Any]) -> Totals:
    prompt, completion = row["prompt"] or 0, row["completion"] or 0
    return Totals(
        requests=row["requests"],
        refused=row["refused"],
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cost=row["dollars"] or Decimal(0),
        unpriced=row["unpriced"],
    )


def _label(value: object) -> str:
    return value.date().isoformat() if isinstance(value, datetime) else str(value)

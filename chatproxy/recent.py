"""What goes on at this moment, out of the ledger: for operators at a terminal."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import (
    Case,
    Count,
    DateTimeField,
    ExpressionWrapper,
    F,
    Q,
    QuerySet,
    Sum,
    Value,
    When,
)
from django.utils import timezone

from chatproxy.models import ChatRequest
from plans.models import GatewayModel

Outcome = ChatRequest.Outcome
# A request is written when it has ended, at most so long after the ledger's queue took it.
WRITTEN_WITHIN = timedelta(seconds=10)
MOST_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What one user made of one model."""

    user: str
    model: str
    requests: int
    # Of these: said no to, and failed or broken off.
    refused: int
    failed: int
    tokens: int
    # US dollars at the gateway.
    cost: Decimal


# For whatever was refused under a name that no model has.
UNKNOWN_MODEL = "unknown"


def model_or_unknown() -> Case:
    """A request's model. Whoever asks chooses the name: one that no model has, and that nothing
    answered to, is not worth a line of its own."""
    exists = Q(model__in=GatewayModel.objects.values("name"))
    return Case(
        When(~Q(outcome=Outcome.REFUSED) | exists, then=F("model")), default=Value(UNKNOWN_MODEL)
    )


def usage_since(since: datetime) -> list[UsageLine]:
    """Usage by user and model of requests that began at or after ``since``; dearest first."""
    rows = (
        ChatRequest.objects.filter(started_at__gte=since)
        .order_by()
        .values("user__email", model_asked=model_or_unknown())
        .annotate(
            requests=Count("id"),
            refused=Count("id", filter=Q(outcome=Outcome.REFUSED)),
            failed=Count("id", filter=Q(outcome__in=[Outcome.FAILED, Outcome.BROKEN])),
            tokens=Sum(F("prompt_tokens") + F("completion_tokens")),
            cost=Sum("cost"),
        )
    )
    lines = [
        UsageLine(
            user=row["user__email"] or "(erased)",
            model=row["model_asked"],
            requests=row["requests"],
            refused=row["refused"],
            failed=row["failed"],
            tokens=row["tokens"] or 0,
            cost=row["cost"] or Decimal(0),
        )
        for row in rows
    ]
    return sorted(lines, key=lambda line: (-line.cost, -line.requests, line.user, line.model))


class Tail:
    """Requests in the order in which they end. ``filters`` are the ledger's own columns."""

    def __init__(self, **filters: Any) -> None:
        self._filters = filters
        self._seen: deque[Any] = deque(maxlen=MOST_REMEMBERED)
        self._looked_at: datetime | None = None

    def last(self, count: int) -> list[ChatRequest]:
        """The newest ``count``; whatever ends from now on is told by ``new``."""
        now = timezone.now()
        found = self._rows(now - timedelta(days=1)).order_by("-started_at")[:count]
        return self._take(sorted(found, key=_ended_at), now)

    def new(self) -> list[ChatRequest]:
        """What has ended since it was last asked."""
        now = timezone.now()
        ended_after = (self._looked_at or now) - WRITTEN_WITHIN
        longest = timedelta(seconds=settings.CHAT_TIMEOUT_SECONDS + 60)
        ended = ExpressionWrapper(
            F("started_at") + F("duration_ms") * Value(timedelta(milliseconds=1)),
            output_field=DateTimeField(),
        )
        found = (
            self._rows(ended_after - longest).annotate(ended=ended).filter(ended__gte=ended_after)
        )
        return self._take(sorted(found, key=_ended_at), now)

    def _rows(self, since: datetime) -> QuerySet[ChatRequest]:
        rows = ChatRequest.objects.filter(started_at__gte=since, **self._filters)
        return rows.select_related("user").order_by()

    def _take(self, rows: list[ChatRequest], now: datetime) -> list[ChatRequest]:
        known = set(self._seen)
        fresh = [row for row in rows if row.pk not in known]
        self._seen.extend(row.pk for row in fresh)
        self._looked_at = now
        return fresh


def _ended_at(row: ChatRequest) -> datetime:
    return row.started_at + timedelta(milliseconds=row.duration_ms)


def describe(rows: list[ChatRequest]) -> Iterator[str]:
    """One line for each request, without anything of what was said."""
    for row in rows:
        model = f"{row.model} ({row.served_model})" if row.served_model else row.model
        first = "-" if row.ttfb_ms is None else f"{row.ttfb_ms}"
        cost = "?" if row.cost is None else f"{row.cost:.6f}"
        yield (
            f"{_ended_at(row):%H:%M:%S}  {row.outcome:<9} {row.status} {row.error_code or '-':<20} "
            f"{row.user.email:<28} {row.plan_code:<8} {model}  "
            f"{row.prompt_tokens}+{row.completion_tokens} tokens ${cost}  "
            f"{first}/{row.duration_ms} ms  {row.public_id}"
        )

"""Let old calls of the gateway's books go: their sums by hour and day stay what they are.

Whatever money still needs stays as well: what an overage window is yet to be reported from, and
days whose two books are not compared, or differ without a reason that we know, as long as the
ledger can still be asked.
"""

import logging
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from chatproxy.usage_models import UsageCheck
from llmkeys.models import UsageEntry
from llmkeys.overage import LATE
from llmkeys.usage_books import let_go
from plans.models import BillingProblem, OverageReport, OverageWindow

logger = logging.getLogger(__name__)

DAY = timedelta(days=1)


def drop_entries(*, older_than: timedelta, now: datetime | None = None) -> int:
    """Remove calls that began on days (UTC) which ended longer ago than that; how many."""
    now = now or timezone.now()
    horizon = (now - older_than).replace(hour=0, minute=0, second=0, microsecond=0)
    old = UsageEntry.objects.filter(
        source=UsageEntry.Source.GATEWAY, started_at__lt=horizon
    ).order_by()
    dropped = 0
    for start in old.datetimes("started_at", "day", tzinfo=UTC):
        if _is_open(start.date(), now):
            continue
        of_day = _needless(now).filter(started_at__gte=start, started_at__lt=start + DAY)
        while done := let_go(of_day, before=horizon):
            dropped += done
    if dropped:
        logger.info("Let %s calls go that began before %s", dropped, horizon.date())
    return dropped


def _is_open(day: date, now: datetime) -> bool:
    """Whether the day's two books may still be compared, and there is a reason to."""
    if day < (now - timedelta(days=settings.CHAT_LEDGER_DAYS)).date():
        return False
    check = UsageCheck.objects.filter(day=day).first()
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + DAY
    return check is None or check.settled_until < end or check.unexplained_requests > 0


def _needless(now: datetime) -> QuerySet[UsageEntry]:
    """Entries that lie in no window from which something may still be billed or argued."""
    unsent = OverageReport.objects.filter(window=OuterRef("pk")).exclude(
        state=OverageReport.State.SENT
    )
    problems = BillingProblem.objects.filter(customer=OuterRef("customer"), resolved_at=None)
    windows = OverageWindow.objects.filter(
        Q(due_at__isnull=False) | Q(period_end__gt=now - LATE) | Exists(unsent) | Exists(problems),
        user_id=OuterRef("user_id"),
        period_start__lte=OuterRef("started_at"),
        period_end__gt=OuterRef("started_at"),
    )
    return UsageEntry.objects.filter(~Exists(windows))

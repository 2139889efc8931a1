"""Copy the gateway's spend log into our books: a little every minute, again and again.

The log is read by windows of its ``startTime``, page by page, each page written in a transaction
of its own. ``UsageImport.read_until`` is the watermark; a window that was not finished is read
again. Nothing that is read twice counts twice (llmkeys.usage_books), so reading again is always
safe, and rows that appear late are found by reading back over a stretch that is done:

* every minute over the last ``SHORT``, since LiteLLM writes its log in batches of 10 to 15 s;
* every quarter of an hour over the last ``WIDE``: a call has its row at its end, and its start
  decides the window;
* every night over the last ``DEEP``, for a gateway that could not write for hours.

A page may shift while rows arrive. The log is listed newest first, so that a row can only move to
a later page, where it is met again; what comes in behind us is met by the next reading back.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db.models import F, Min, Q
from django.utils import timezone

from llmkeys import gateway
from llmkeys.litellm_client import MAX_PAGE, LiteLLMClient
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.metrics import USAGE_ROWS
from llmkeys.models import UsageImport, VirtualKey
from llmkeys.usage_attribution import Attributed, by_key
from llmkeys.usage_books import write_calls
from llmkeys.usage_log import LoggedCall, Unreadable, read_row

logger = logging.getLogger(__name__)

SHORT = timedelta(minutes=2)
WIDE, WIDE_EVERY = timedelta(minutes=30), timedelta(minutes=15)
DEEP, DEEP_EVERY = timedelta(days=3), timedelta(days=1)
# A window is read whole before the watermark passes it.
WINDOW = timedelta(hours=6)
# Renewed with every page: longer than the slowest page may take.
LEASE = timedelta(minutes=2)

Attribute = Callable[[Sequence[LoggedCall]], Attributed]


@dataclass(slots=True)
class Report:
    """What a run saw: rows read, added and unreadable, and the days (UTC) that changed."""

    read: int = 0
    added: int = 0
    unreadable: int = 0
    days: set[date] = field(default_factory=set)


def import_usage(
    *,
    attribute: Attribute = by_key,
    since: datetime | None = None,
    at: datetime | None = None,
    progress: Callable[[datetime, Report], None] = lambda until, report: None,
) -> Report | None:
    """Read what is new, and back over what may have come late; from ``since`` where given.

    None if another worker is at it. Raises LiteLLMError, with all that was read before on the
    books; the next run goes on from there.
    """
    now = at or timezone.now()
    state = _state(now)
    if not _claim(state, now):
        return None
    state.refresh_from_db()
    report = Report()
    start, stretch = (since, {}) if since is not None else _start(state, now)
    try:
        for first, last in _windows(start, now):
            _read_window(gateway.client(), state, first, last, attribute, report, now)
            _advance(state, last)
            progress(last, report)
    except LiteLLMError as error:
        _finish(state, report, last_error=str(error)[:500])
        raise
    _finish(state, report, succeeded_at=now, last_error="", **stretch)
    return report


def _state(now: datetime) -> UsageImport:
    """Reading begins where our first key did."""
    oldest = VirtualKey.objects.aggregate(oldest=Min("created_at"))["oldest"]
    state, _ = UsageImport.objects.get_or_create(
        gateway_url=settings.LITELLM_URL, defaults={"read_until": oldest or now}
    )
    return state


def _claim(state: UsageImport, now: datetime) -> bool:
    # By the database's rows and the wall clock, whatever moment the caller reads for.
    wall = timezone.now()
    free = Q(claimed_until=None) | Q(claimed_until__lt=wall) | Q(claimed_until__gt=wall + 2 * LEASE)
    return bool(UsageImport.objects.filter(free, pk=state.pk).update(claimed_until=wall + LEASE))


def _start(state: UsageImport, now: datetime) -> tuple[datetime, dict[str, datetime]]:
    """From when to read, and which marks a successful run sets."""
    if state.deep_at is None or state.deep_at <= now - DEEP_EVERY:
        return min(state.read_until, now) - DEEP, {"deep_at": now, "wide_at": now}
    if state.wide_at is None or state.wide_at <= now - WIDE_EVERY:
        return min(state.read_until, now) - WIDE, {"wide_at": now}
    return min(state.read_until, now) - SHORT, {}


def _windows(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        last = min(start + WINDOW, end)
        yield start, last
        start = last


def _read_window(
    client: LiteLLMClient,
    state: UsageImport,
    first: datetime,
    last: datetime,
    attribute: Attribute,
    report: Report,
    now: datetime,
) -> None:
    """All pages from ``first`` to ``last``. The log's bounds are whole seconds, both included."""
    page = 1
    while True:
        rows = client.spend_log_page(_seconds(first), _seconds(last), page)
        _take(rows, attribute, report, now)
        UsageImport.objects.filter(pk=state.pk).update(claimed_until=timezone.now() + LEASE)
        # The log's own count of pages is capped; a page that is not full is the last.
        if len(rows) < MAX_PAGE:
            return
        page += 1


def _take(
    rows: Sequence[dict[str, object]], attribute: Attribute, report: Report, now: datetime
) -> None:
    calls = []
    for row in rows:
        try:
            calls.append(read_row(row))
        except Unreadable as reason:
            report.unreadable += 1
            logger.error("a row of the spend log cannot be read: %s", reason)
    added = write_calls(attribute(calls), at=now) if calls else None
    report.read += len(rows)
    USAGE_ROWS.labels("read").inc(len(rows))
    USAGE_ROWS.labels("unreadable").inc(len(rows) - len(calls))
    if added is not None:
        report.added += added.entries
        report.days |= added.days
        USAGE_ROWS.labels("added").inc(added.entries)


def _advance(state: UsageImport, until: datetime) -> None:
    """The watermark only moves forward, whatever is read again."""
    UsageImport.objects.filter(pk=state.pk, read_until__lt=until).update(read_until=until)


def _finish(state: UsageImport, report: Report, **fields: object) -> None:
    UsageImport.objects.filter(pk=state.pk).update(
        claimed_until=None,
        rows_read=F("rows_read") + report.read,
        rows_added=F("rows_added") + report.added,
        rows_unreadable=F("rows_unreadable") + report.unreadable,
        **fields,
    )


def _seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")

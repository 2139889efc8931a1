"""Compare the gateway's spend log with our ledger, request by request, and say why they differ.

Both are joined by our call id, which is the ledger row's id, or by the answer's id where the log
has no call id. Several attempts at the gateway for one request count together. A pair belongs to
the day (UTC) on which the gateway's call began, a request that only we know to the day on which it
began. What ended a moment ago may be missing on one side and waits for the next time.

    gateway_cost - ledger_cost = sum of the differences of all kinds, to the last digit

The day is also held against the gateway's own daily sums: LiteLLM drops log rows whose request id
it has seen before, while its sums count them.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from chatproxy.usage_models import UNEXPLAINED, UsageCheck, UsageComparison
from llmkeys import gateway
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import UsageEntry, UsageImport
from llmkeys.spec import money
from llmkeys.usage_import import SHORT
from tesslate.lib.sql import fetch

logger = logging.getLogger(__name__)

DAY = timedelta(days=1)
# Retries may put hours between the request and the attempt that was answered.
APART = timedelta(hours=2)
# A ledger row is written when the request ends, or a little later when batches were spilled.
SETTLES_WITHIN = timedelta(minutes=1)
# Recent days are compared anew: late rows and spilled batches are common there.
RECENT_DAYS = 3

# Our call ids: UUIDs of version 7. LiteLLM's own are of version 4.
OUR_CALL = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(-[0-9]+)?$"

COMPARE = """
WITH calls AS (
    SELECT CASE WHEN call_id ~ %(ours)s
            THEN left(call_id, 36)::uuid ELSE answered.id END AS request_id,
        call_id ~ %(ours)s AS is_ours,
        entry.id AS entry_id, external_id, entry.user_id, entry.model, failed, entry.cost,
        entry.started_at, coalesce(entry.ended_at, entry.started_at) AS ended_at
    FROM llmkeys_usageentry entry
    LEFT JOIN LATERAL (
        SELECT id FROM chatproxy_chatrequest
        WHERE entry.call_id = '' AND gateway_response_id = entry.external_id
            AND started_at >= %(start)s - %(apart)s AND started_at < %(end)s + %(apart)s
        LIMIT 1
    ) answered ON true
    WHERE source = 'gateway'
        AND entry.started_at >= %(start)s - %(apart)s AND entry.started_at < %(end)s + %(apart)s
),
attempts AS (
    SELECT request_id, bool_or(is_ours) AS is_ours, max(external_id) AS external_id,
        max(user_id) AS user_id, (array_agg(model ORDER BY failed, started_at DESC))[1] AS model,
        bool_and(failed) AS failed, sum(cost) AS cost, min(started_at) AS started_at,
        max(ended_at) AS ended_at, count(*) AS calls
    FROM calls GROUP BY request_id, CASE WHEN request_id IS NULL THEN entry_id END
),
requests AS (
    SELECT id, user_id, model, cost, outcome, is_estimated, started_at,
        started_at + duration_ms * interval '1 millisecond' AS ended_at
    FROM chatproxy_chatrequest
    WHERE started_at >= %(start)s - %(apart)s AND started_at < %(end)s + %(apart)s
        AND gateway_call_id <> '' AND outcome <> 'replayed'
),
pairs AS (
    SELECT coalesce(request.user_id, attempt.user_id) AS user_id,
        coalesce(nullif(attempt.model, ''), request.model, '') AS model,
        coalesce(attempt.cost, 0) AS gateway_cost, coalesce(request.cost, 0) AS ledger_cost,
        coalesce(attempt.calls, 0) AS calls, request.id IS NOT NULL AS in_ledger,
        coalesce(request.id::text, attempt.external_id) AS example,
        CASE
            WHEN attempt.calls IS NULL THEN
                CASE WHEN coalesce(request.cost, 0) = 0 THEN 'refused' ELSE 'lost_at_gateway' END
            WHEN request.id IS NULL THEN
                CASE WHEN attempt.failed AND attempt.cost = 0 THEN 'refused'
                    WHEN attempt.is_ours THEN 'lost_here'
                    WHEN attempt.user_id IS NULL THEN 'unknown_key'
                    ELSE 'not_through_us' END
            WHEN abs(attempt.cost - coalesce(request.cost, 0)) <= 0.000001 THEN
                CASE WHEN attempt.failed THEN 'refused' ELSE 'agrees' END
            WHEN request.cost IS NULL THEN 'not_told'
            WHEN request.is_estimated THEN 'estimated'
            WHEN request.outcome IN ('abandoned', 'broken') THEN 'cut_short'
            ELSE 'cost_differs'
        END AS kind
    FROM attempts attempt FULL JOIN requests request ON request.id = attempt.request_id
    WHERE coalesce(attempt.started_at, request.started_at) >= %(start)s
        AND coalesce(attempt.started_at, request.started_at) < %(end)s
        AND greatest(attempt.ended_at, request.ended_at) <= %(settled)s
)
SELECT user_id, model, kind, count(*), sum(gateway_cost), sum(ledger_cost), min(example),
    sum(calls), count(*) FILTER (WHERE in_ledger), sum(abs(gateway_cost - ledger_cost))
FROM pairs GROUP BY user_id, model, kind
"""


def check_day(day: date, *, at: datetime | None = None) -> UsageCheck:
    """Compare one day, as far as it is settled, and replace what was found before."""
    now = at or timezone.now()
    rows = _compare(day, _settled_until(now))
    unexplained = [row for row in rows if row[2] in UNEXPLAINED]
    with transaction.atomic():
        check, _ = UsageCheck.objects.update_or_create(
            day=day,
            defaults={
                "checked_at": now,
                "settled_until": _settled_until(now),
                "gateway_calls": sum(row[7] for row in rows),
                "ledger_requests": sum(row[8] for row in rows),
                "gateway_cost": sum((row[4] for row in rows), Decimal(0)),
                "ledger_cost": sum((row[5] for row in rows), Decimal(0)),
                "unexplained_requests": sum(row[3] for row in unexplained),
                "unexplained_cost": sum((row[9] for row in unexplained), Decimal(0)),
            },
        )
        check.comparisons.all().delete()
        UsageComparison.objects.bulk_create(
            UsageComparison(
                check_of=check,
                user_id=user_id,
                model=model,
                kind=kind,
                requests=requests,
                gateway_cost=gateway_cost,
                ledger_cost=ledger_cost,
                example=example,
            )
            for user_id, model, kind, requests, gateway_cost, ledger_cost, example, *_ in rows
        )
    return check


def _compare(day: date, settled: datetime) -> list[tuple[Any, ...]]:
    start = _midnight(day)
    values: dict[str, Any] = {
        "start": start,
        "end": start + DAY,
        "apart": APART,
        "settled": settled,
        "ours": OUR_CALL,
    }
    return fetch(COMPARE, values)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _settled_until(now: datetime) -> datetime:
    """What ended before has been written by both sides, and imported."""
    read = UsageImport.objects.filter(gateway_url=settings.LITELLM_URL).first()
    imported = read.read_until - SHORT if read else now
    return min(imported, now - SETTLES_WITHIN)


def count_at_gateway(day: date) -> Decimal:
    """The day's cost by the gateway's own daily sums, all keys. Raises LiteLLMError."""
    total, page, more = Decimal(0), 1, True
    while more:
        days, more = gateway.client().daily_activity_page(str(day), str(day), page)
        for found in days:
            metrics = found.get("metrics")
            spend = money(metrics.get("spend")) if isinstance(metrics, dict) else None
            total += spend or Decimal(0)
        page += 1
    return total


def days_to_check(now: datetime) -> list[date]:
    """Recent days, and older ones that got entries after they were last compared."""
    today = now.astimezone(UTC).date()
    recent = {today - n * DAY for n in range(RECENT_DAYS)}
    last = UsageCheck.objects.order_by("-checked_at").first()
    since = last.checked_at - SETTLES_WITHIN if last else None
    entries = UsageEntry.objects.filter(source=UsageEntry.Source.GATEWAY)
    if since is not None:
        entries = entries.filter(imported_at__gte=since)
    late = {
        moment.date() for moment in entries.order_by().datetimes("started_at", "day", tzinfo=UTC)
    }
    return sorted(recent | late)


def check_usage(
    *, at: datetime | None = None, days: Iterable[date] | None = None
) -> list[UsageCheck]:
    """Compare the days that may have changed. A gateway that does not answer leaves its own daily
    sums unasked; everything else is ours."""
    now = at or timezone.now()
    checks = []
    for day in days_to_check(now) if days is None else days:
        check = check_day(day, at=now)
        checks.append(check)
        if check.settled_until < _midnight(day) + DAY:
            continue  # the gateway counts calls that are not to be compared yet
        try:
            check.counted_cost = count_at_gateway(day)
        except LiteLLMError as error:
            logger.warning("the gateway's sums of %s could not be read: %s", day, error)
        else:
            check.save(update_fields=["counted_cost"])
    return checks

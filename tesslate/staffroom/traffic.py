"""Roll the ledger up by the hour, so that the front page need not read it."""

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Max
from django.utils import timezone

from tesslate.staffroom.models import HourlyTraffic

# Ledger rows are written when a request ends, and spilled batches later still.
LATE = timedelta(hours=2)
# How far back a first run goes.
HISTORY = timedelta(days=90)

# Whoever asks chooses the model's name: one that no model has, and that nothing answered to, counts
# as unknown (chatproxy.recent.UNKNOWN_MODEL).
ROLL_UP = """
    INSERT INTO staffroom_hourlytraffic (hour, model, plan_code, requests, errors, refused,
        abandoned, prompt_tokens, completion_tokens, cost, ttfb_p50_ms, ttfb_p95_ms)
    SELECT date_trunc('hour', started_at, 'UTC'),
        CASE WHEN outcome <> 'refused' OR model IN (SELECT name FROM plans_gatewaymodel)
            THEN model ELSE 'unknown' END,
        plan_code, count(*),
        count(*) FILTER (WHERE outcome IN ('failed', 'broken')),
        count(*) FILTER (WHERE outcome = 'refused'),
        count(*) FILTER (WHERE outcome = 'abandoned'),
        sum(prompt_tokens), sum(completion_tokens), coalesce(sum(cost), 0),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY ttfb_ms),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY ttfb_ms)
    FROM chatproxy_chatrequest
    WHERE started_at >= %s AND started_at < %s
    GROUP BY 1, 2, 3
    ON CONFLICT (hour, model, plan_code) DO UPDATE SET
        requests = EXCLUDED.requests, errors = EXCLUDED.errors, refused = EXCLUDED.refused,
        abandoned = EXCLUDED.abandoned, prompt_tokens = EXCLUDED.prompt_tokens,
        completion_tokens = EXCLUDED.completion_tokens, cost = EXCLUDED.cost,
        ttfb_p50_ms = EXCLUDED.ttfb_p50_ms, ttfb_p95_ms = EXCLUDED.ttfb_p95_ms
"""


def roll_up(*, at: datetime | None = None) -> int:
    """Count every hour anew that may still change; returns the rows written. Safe to repeat."""
    at = at or timezone.now()
    newest = HourlyTraffic.objects.aggregate(newest=Max("hour"))["newest"]
    start = at - HISTORY if newest is None else min(newest, _hour(at)) - LATE
    with connection.cursor() as cursor:
        cursor.execute(ROLL_UP, [_hour(start), _hour(at) + timedelta(hours=1)])
        return int(cursor.rowcount)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)

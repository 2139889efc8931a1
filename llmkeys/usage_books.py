"""Write usage: entries, and in the same statement what they add to the hours and days.

So sums never lag behind entries, an entry that comes twice adds nothing, and one that comes late
changes the hour and the day it belongs to, however long they are over. ``rebuild`` counts days
anew from the entries. Writers and rebuilding take turns (an advisory lock), so that no entry falls
between the two. Budgets and overage windows of those concerned become due in the same transaction.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import orjson
from django.db import connection, transaction
from django.db.models import Max, Min, QuerySet

from accounts.audit import record_act
from accounts.models import Organization, User
from llmkeys import overage, spend_budgets
from llmkeys.models import UsageEntry, UsageRetention
from llmkeys.usage_log import LoggedCall
from tesslate.lib.cause import Cause
from tesslate.lib.errors import InvalidRequest

# Distinguishes our advisory lock from any other use of the one-integer form.
LOCK = 0x55534147
# Others wait to write meanwhile.
LET_GO_AT_ONCE = 5_000
LARGEST_CREDIT = Decimal(100_000)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whom a call belongs to. None and empty: nobody could be named."""

    user_id: int | None = None
    key_id: int | None = None
    organization_id: int | None = None
    plan_code: str = ""


@dataclass(frozen=True, slots=True)
class Added:
    """What a write added: entries, and the days (UTC) whose sums changed."""

    entries: int
    days: frozenset[date]


COLUMNS = {
    "source": "text",
    "external_id": "text",
    "key_hash": "text",
    "call_id": "text",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    "imported_at": "timestamptz",
    "user_id": "bigint",
    "organization_id": "bigint",
    "key_id": "bigint",
    "plan_code": "text",
    "model": "text",
    "provider_model": "text",
    "provider": "text",
    "failed": "boolean",
    "error_code": "text",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "cost": "numeric",
    "credited": "numeric",
    "is_unpriced": "boolean",
    "reason": "text",
    "credited_by_id": "bigint",
}
DIMENSIONS = "user_id, organization_id, plan_code, model, provider"
MEASURES = {
    "requests": "count(*) FILTER (WHERE NOT failed AND source = 'gateway')",
    "failed": "count(*) FILTER (WHERE failed)",
    "unpriced": "count(*) FILTER (WHERE is_unpriced)",
    "prompt_tokens": "sum(prompt_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "cost": "sum(cost)",
    "credited": "sum(credited)",
}
HOUR = "date_trunc('hour', started_at, 'UTC')"
DAY = "(started_at AT TIME ZONE 'UTC')::date"


def _add_up(table: str, unit: str, moment: str, entries: str) -> str:
    """Add ``entries`` to the sums. Names and expressions are those above."""
    raised = ", ".join(f"{name} = {table}.{name} + EXCLUDED.{name}" for name in MEASURES)
    return f"""
        INSERT INTO {table} ({unit}, {DIMENSIONS}, {", ".join(MEASURES)})
        SELECT {moment}, {DIMENSIONS}, {", ".join(MEASURES.values())} FROM {entries}
        GROUP BY 1, {DIMENSIONS}
        ON CONFLICT ({unit}, {DIMENSIONS}) DO UPDATE SET {raised}
    """  # noqa: S608 - fixed names


WRITE = f"""
    WITH fresh AS (
        INSERT INTO llmkeys_usageentry ({", ".join(COLUMNS)})
        SELECT {", ".join(COLUMNS)} FROM jsonb_to_recordset(%s::jsonb)
            AS r({", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())})
        WHERE source = 'credit' OR started_at >= coalesce(
            (SELECT max(complete_from) FROM llmkeys_usageretention), '-infinity')
        ON CONFLICT (source, external_id, key_hash, started_at) DO NOTHING
        RETURNING *
    ),
    hours AS ({_add_up("llmkeys_usagehour", "hour", HOUR, "fresh")}),
    days AS ({_add_up("llmkeys_usageday", "day", DAY, "fresh")})
    SELECT count(*), array_agg(DISTINCT {DAY}), array_agg(DISTINCT user_id),
        array_agg(DISTINCT organization_id), min(started_at), max(started_at) FROM fresh
"""  # noqa: S608 - fixed names


def write_calls(calls: Sequence[tuple[LoggedCall, Attribution]], *, at: datetime) -> Added:
    """Add these calls and their sums; those that are there already add nothing."""
    return _write([_row(call, whose, at) for call, whose in calls])


@transaction.atomic
def credit_usage(
    *,
    user: User,
    amount: Decimal,
    reason: str,
    cause: Cause,
    at: datetime,
    organization: Organization | None = None,
    plan_code: str = "",
    identifier: str = "",
) -> UsageEntry:
    """Give usage back to a customer, in US dollars, as an entry of its own at ``at``.

    What was used stays on the books: a credit is money, not a correction of facts. It lessens the
    overage that is billed for the window which ``at`` lies in; the key's budget at the gateway is
    given back apart from it (llmkeys.services.reset_spend). With an ``identifier`` repeating the
    call changes nothing. Raises InvalidRequest.
    """
    if not 0 < amount <= LARGEST_CREDIT:
        raise InvalidRequest(f"More than 0 and at most {LARGEST_CREDIT:,}.", param="amount")
    if not reason.strip():
        raise InvalidRequest("Say why.", param="reason")
    external_id = identifier or str(uuid.uuid4())
    row = {
        **dict.fromkeys(COLUMNS),
        **dict.fromkeys(("key_hash", "call_id", "provider_model", "provider", "error_code"), ""),
        "model": "",
        "source": UsageEntry.Source.CREDIT,
        "external_id": external_id,
        "started_at": at,
        "imported_at": at,
        "user_id": user.pk,
        "organization_id": organization.pk if organization else None,
        "plan_code": plan_code,
        "failed": False,
        "is_unpriced": False,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cost": "0",
        "credited": str(amount),
        "reason": reason[:500],
        "credited_by_id": cause.actor_id,
    }
    added = _write([row])
    entry = UsageEntry.objects.get(source=UsageEntry.Source.CREDIT, external_id=external_id)
    if added.entries:
        record_act(
            action="usage.credited",
            cause=cause,
            target=entry,
            user=user,
            organization=organization,
            reason=reason,
            after={"credited": str(amount), "at": at.isoformat()},
        )
    return entry


@transaction.atomic
def _write(rows: list[dict[str, object]]) -> Added:
    if not rows:
        return Added(0, frozenset())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        cursor.execute(WRITE, [orjson.dumps(rows).decode()])
        count, days, users, organizations, first, last = cursor.fetchone()
    if count:
        user_ids = [pk for pk in users if pk is not None]
        spend_budgets.note_use(user_ids, [pk for pk in organizations if pk is not None])
        overage.note_use(user_ids, first, last)
    return Added(count, frozenset(days or ()))


def _row(call: LoggedCall, whose: Attribution, at: datetime) -> dict[str, object]:
    row = {**asdict(call), **asdict(whose), "cost": str(call.cost)}
    del row["team_id"]
    return {
        **row,
        "source": UsageEntry.Source.GATEWAY,
        "imported_at": at,
        "credited": "0",
        "reason": "",
        "credited_by_id": None,
    }


# Retention


class EntriesGone(Exception):
    """What was asked for needs entries that were let go."""


def entries_complete_from() -> datetime | None:
    """From when on there is an entry for every call; None for always."""
    row = UsageRetention.objects.first()
    return None if row is None else row.complete_from


@transaction.atomic
def let_go(entries: QuerySet[UsageEntry], *, before: datetime) -> int:
    """Remove those of ``entries`` that are calls which began before a midnight (UTC); how many of
    them this turn, 0 when none is left.

    Their sums stay as they are. From then on nothing from before it is counted again.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    row, made = UsageRetention.objects.get_or_create(pk=1, defaults={"complete_from": before})
    if not made and row.complete_from < before:
        row.complete_from = before
        row.save(update_fields=["complete_from"])
    gone = entries.filter(source=UsageEntry.Source.GATEWAY, started_at__lt=before)
    ids = list(gone.order_by().values_list("pk", flat=True)[:LET_GO_AT_ONCE])
    return UsageEntry.objects.filter(pk__in=ids).delete()[0]


# Rebuilding


def days_with_entries() -> list[date]:
    """From the first day that has an entry to the last."""
    found = UsageEntry.objects.order_by().aggregate(first=Min("started_at"), last=Max("started_at"))
    if found["first"] is None:
        return []
    complete_from = entries_complete_from()
    start = found["first"] if complete_from is None else max(found["first"], complete_from)
    first, last = start.astimezone(UTC).date(), found["last"].astimezone(UTC).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def rebuild(days: Iterable[date], *, progress: Callable[[date], None] = lambda day: None) -> int:
    """Count these days anew from the entries; how many days were done. Safe to interrupt."""
    done = 0
    for day in days:
        rebuild_day(day)
        progress(day)
        done += 1
    return done


@transaction.atomic
def rebuild_day(day: date) -> None:
    """Raises EntriesGone for a day whose entries are no longer all there: its sums are kept."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = start + timedelta(days=1)
    entries = "llmkeys_usageentry WHERE started_at >= %s AND started_at < %s"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        complete_from = entries_complete_from()
        if complete_from is not None and start < complete_from:
            raise EntriesGone(f"{day}: entries are kept from {complete_from:%Y-%m-%d} on")
        cursor.execute("DELETE FROM llmkeys_usagehour WHERE hour >= %s AND hour < %s", [start, end])
        cursor.execute("DELETE FROM llmkeys_usageday WHERE day = %s", [day])
        cursor.execute(_add_up("llmkeys_usagehour", "hour", HOUR, entries), [start, end])
        cursor.execute(_add_up("llmkeys_usageday", "day", DAY, entries), [start, end])

"""Who works on a row: one worker at a time, and for a limited time."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from django.db.models import F
from django.utils import timezone
from psycopg import sql

from llmkeys.models import Reconciled
from tesslate.lib.sql import fetch

# Several calls at their time limit fit in; a worker stops sending well before the end.
LEASE = timedelta(seconds=90)
LONGEST_WAIT = timedelta(minutes=5)

# Behind as llmkeys.models.reconciled.BEHIND says. A clock that was set back must not leave rows
# waiting for a moment far ahead: no lease and no wait is ever longer than these.
_CLAIM = """
    WITH due AS (
        SELECT {key}, in_doubt, next_attempt_at FROM {table}
        WHERE generation > observed_generation AND parked_at IS NULL
            AND (lease_until IS NULL OR lease_until < %(now)s OR lease_until > %(until)s)
            AND (next_attempt_at <= %(now)s OR next_attempt_at > %(longest)s)
            AND (%(ids)s::bigint[] IS NULL OR {key} = ANY(%(ids)s))
        ORDER BY next_attempt_at, {key} LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE {table} SET lease_token = %(token)s, lease_until = %(until)s, in_doubt = true,
            attempts = attempts + 1
        FROM due WHERE {table}.{key} = due.{key}
        RETURNING due.*
    )
    SELECT {key}, in_doubt FROM claimed ORDER BY next_attempt_at, {key}
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that are ours until ``until``, and which of them are in doubt.

    A claim itself puts its rows in doubt: should this worker die, its calls may have had an
    effect. ``in_doubt`` is how they were before.
    """

    token: str
    until: datetime
    ids: list[int]
    in_doubt: frozenset[int]


def claim(model: type[Reconciled], *, limit: int, ids: Collection[int] | None = None) -> Claim:
    """Claim rows that are behind, due and free, those that wait longest first."""
    now = timezone.now()
    token, until = secrets.token_hex(16), now + LEASE
    claimed = fetch(
        _statement(model),
        {
            "now": now,
            "until": until,
            "longest": now + LONGEST_WAIT,
            "ids": None if ids is None else list(ids),
            "limit": limit,
            "token": token,
        },
    )
    in_doubt = frozenset(pk for pk, doubtful in claimed if doubtful)
    return Claim(token, until, [pk for pk, _ in claimed], in_doubt)


@cache
def _statement(model: type[Reconciled]) -> str:
    names = {"table": model._meta.db_table, "key": str(model._meta.pk.column)}
    return sql.SQL(_CLAIM).format(**{k: sql.Identifier(v) for k, v in names.items()}).as_string()


def release(model: type[Reconciled], claim: Claim, ids: Collection[int]) -> None:
    """Give rows back untouched: nothing was sent for them.

    They stay in doubt. Somebody may have asked meanwhile to have them read back, and one read too
    many is cheaper than one too few.
    """
    model._default_manager.filter(pk__in=ids, lease_token=claim.token).update(
        lease_token="", lease_until=None, attempts=F("attempts") - 1
    )

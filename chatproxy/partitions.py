"""The ledger's monthly partitions: made ahead of time, dropped when their time is over."""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone
from psycopg import sql

from chatproxy.models import ChatContent
from tesslate.lib.sql import fetch

logger = logging.getLogger(__name__)

TABLE = "chatproxy_chatrequest"
DEFAULT = f"{TABLE}_default"
NAME = re.compile(rf"{TABLE}_(\d{{4}})_(\d{{2}})")
MONTHS_AHEAD = 2


def make_partitions(today: date | None = None, *, ahead: int = MONTHS_AHEAD) -> list[str]:
    """Have partitions for this month and the next ones; the names of those made now.

    Rows that went to the default partition because a month's own was missing move over.
    """
    month = (today or timezone.now().date()).replace(day=1)
    made = []
    for _ in range(ahead + 1):
        name = f"{TABLE}_{month:%Y_%m}"
        if name not in partitions():
            _make(name, month, _next(month))
            made.append(name)
        month = _next(month)
    return made


def drop_partitions(*, older_than: timedelta, now: datetime | None = None) -> list[str]:
    """Drop months that ended longer ago than that, and such rows of the default partition."""
    horizon = (now or timezone.now()) - older_than
    dropped = []
    for name in partitions():
        found = NAME.fullmatch(name)
        if found is None:
            continue
        end = _next(date(int(found[1]), int(found[2]), 1))
        if datetime(end.year, end.month, 1, tzinfo=UTC) <= horizon:
            _execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
            logger.info("Dropped %s: past its retention", name)
            dropped.append(name)
    delete = sql.SQL("DELETE FROM {} WHERE started_at < %s").format(sql.Identifier(DEFAULT))
    _execute(delete, [horizon])
    return dropped


def drop_content(*, older_than: timedelta, now: datetime | None = None) -> int:
    """Forget stored conversations of that age; how many."""
    horizon = (now or timezone.now()) - older_than
    return ChatContent.objects.filter(created_at__lt=horizon).delete()[0]


def partitions() -> list[str]:
    found = fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = %s::regclass ORDER BY 1",
        [TABLE],
    )
    return [name for (name,) in found]


# 1. A table apart, so that nothing waits while rows move.
# 2. What the default partition holds of this month has to leave it first.
# 3. Attached, it gets the indexes.
MAKE = (
    "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
    "WITH moved AS (DELETE FROM {default} WHERE started_at >= {start} AND started_at < {end}"
    " RETURNING *) INSERT INTO {name} SELECT * FROM moved",
    "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})",
)


@transaction.atomic
def _make(name: str, start: date, end: date) -> None:
    for statement in MAKE:
        _execute(
            sql.SQL(statement).format(
                name=sql.Identifier(name),
                table=sql.Identifier(TABLE),
                default=sql.Identifier(DEFAULT),
                start=sql.Literal(f"{start} 00:00+00"),
                end=sql.Literal(f"{end} 00:00+00"),
            )
        )


def _execute(statement: sql.Composed, parameters: Sequence[datetime] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def _next(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)

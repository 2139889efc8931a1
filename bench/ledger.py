"""The ledger at size: what its questions read, and how fast rows go in.

A year of requests is generated, first a quarter of them, then all, with as many users again for as
many rows again: a user's month stays the same size, so what a question about it reads should, too.
Baselines are the figures at a quarter of the size; a ratio near 1 is what carries over to 50
million rows. The plans, as PostgreSQL ran them, go to standard error. BENCH_ROWS (2 million, some
four minutes and 2 GB) changes the size.
"""

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from django.db import connection
from django.db.models import Count, Sum
from django.test.utils import CaptureQueriesContext

from bench.lib.result import Result
from sandbox.engines import Postgres, running

ROWS = int(os.environ.get("BENCH_ROWS", "2000000"))
# A user's month is about 200 requests, of which there are 12 models.
ROWS_PER_USER = 2400
MODELS = 12
MONTHS = 12
BATCHES = 40
TABLE = "chatproxy_chatrequest"

# Ids as the product makes them: a UUIDv7 whose time is started_at.
GENERATE = f"""
INSERT INTO {TABLE}
SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid,
    to_timestamp(ms / 1000.0), u, NULL, 1, NULL, 'free', 'model-' || m, '', 'chat', true, '',
    CASE WHEN n %% 20 = 0 THEN 'refused' ELSE 'completed' END, 200, '', NULL, 1000, 500, 0.001,
    false, 300, 4000, gen_random_uuid()::text, 'chatcmpl-' || h, '[1, 2]'
FROM (
    SELECT n, %(start)s + (random() * %(span)s)::bigint AS ms, md5(n::text || random()) AS h,
        1 + (random() * (%(users)s - 1))::bigint AS u, (random() * {MODELS - 1})::int AS m
    FROM generate_series(%(from)s::bigint, %(to)s) AS n
) AS made
"""  # noqa: S608 - names of ours


@dataclass(frozen=True, slots=True)
class Read:
    """One question as it was answered: milliseconds, and pages of table and indexes touched."""

    ms: float
    pages: int
    plan: str


def results() -> Iterator[Result]:
    with _database():
        small: dict[str, Read] = {}
        for begin, end in ((0, ROWS // 4), (ROWS // 4, ROWS)):
            _fill(begin, end)
            reads = {name: _ask(question) for name, question in _questions(end).items()}
            inserts = _inserts()
            if not small:
                small, slow = reads, inserts
        for name, read in reads.items():
            print(f"\n-- {name}, {ROWS} rows\n{read.plan}", file=sys.stderr)
            base = small[name]
            ratio = round(read.pages / base.pages, 3)
            yield Result(f"ledger_{name}_pages", read.pages, "pages", base.pages, ratio)
            yield Result(f"ledger_{name}_ms", round(read.ms, 2), "ms", round(base.ms, 2))
        yield Result(
            "ledger_writes", round(inserts), "rows/s", round(slow), round(inserts / slow, 3)
        )


def _questions(rows: int) -> dict[str, Callable[[], object]]:
    """As the product asks them: usage, receipts, staff's list."""
    from accounts.models import User
    from chatproxy.models import ChatRequest
    from chatproxy.selectors import find_request, usage_by, usage_in_period

    start = datetime.combine(_months()[6], datetime.min.time(), UTC)
    end = start + timedelta(days=30)
    somebody = User(pk=rows // ROWS_PER_USER // 2)
    known = ChatRequest.objects.filter(started_at__gte=start).order_by("started_at")[0]
    models_day = ChatRequest.objects.filter(
        model="model-5", started_at__gte=start, started_at__lt=start + timedelta(days=1)
    ).order_by()
    by_response = ChatRequest.objects.filter(gateway_response_id=known.gateway_response_id)
    return {
        "users_month": lambda: usage_in_period(somebody, start, end),
        "users_month_by_model": lambda: usage_by(somebody, start, end, group="model"),
        "models_day": lambda: list(
            models_day.values("outcome").annotate(n=Count("*"), dollars=Sum("cost"))
        ),
        "receipt": lambda: find_request(known.public_id),
        "newest_50": lambda: list(ChatRequest.objects.order_by("-started_at")[:50]),
        "spend_log_row": lambda: list(by_response.order_by()),
    }


def _ask(question: Callable[[], object]) -> Read:
    """Have the very statement explained that the question comes to."""
    with CaptureQueriesContext(connection) as asked:
        question()
    (statement,) = asked.captured_queries
    with connection.cursor() as cursor:
        # The question has just been asked: what is measured is the work, not this machine's disk.
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    took = re.search(r"Execution Time: ([\d.]+)", plan)
    # The topmost node's count includes all below it.
    buffers = re.search(r"Buffers: (?:shared )?(.*)", plan)
    assert took is not None
    assert buffers is not None
    pages = sum(int(count) for count in re.findall(r"(?:hit|read)=(\d+)", buffers[1]))
    return Read(float(took[1]), pages, plan)


def _inserts() -> float:
    """Rows a second through the ledger's own statement, in batches as it makes them."""
    import orjson

    from chatproxy.callers import Caller
    from chatproxy.exchange import Outcome, Usage, new_exchange
    from chatproxy.ledger import MOST_PER_BATCH, write_rows

    caller = Caller(7, "A", None, 1, 100, datetime.now(UTC), 1, None, None)
    batches = []
    for _ in range(BATCHES):
        batch = []
        for _ in range(MOST_PER_BATCH):
            exchange = new_exchange("chat")
            exchange.caller, exchange.model, exchange.status = caller, "model-5", 200
            exchange.outcome, exchange.usage = Outcome.COMPLETED, Usage(1000, 500)
            exchange.call_id = exchange.response_id = exchange.id
            batch.append(orjson.dumps(exchange.record()))
        batches.append(batch)
    begun = time.perf_counter()
    for batch in batches:
        write_rows(batch)
    return BATCHES * MOST_PER_BATCH / (time.perf_counter() - begun)


def _fill(begin: int, end: int) -> None:
    first = datetime.combine(_months()[0], datetime.min.time(), UTC)
    span = datetime.now(UTC) - first
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes"
            " WHERE tablename = %s AND indexdef NOT LIKE '%% UNIQUE %%'",
            [TABLE],
        )
        indexes = cursor.fetchall()
        # Built afterwards: millions of rows take minutes less.
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        cursor.execute(
            GENERATE,
            {
                "start": int(first.timestamp() * 1000),
                "span": int(span.total_seconds() * 1000),
                "users": end // ROWS_PER_USER,
                "from": begin + 1,
                "to": end,
            },
        )
        for _, definition in indexes:
            cursor.execute(definition)
        # As autovacuum does, a while after a month has filled up.
        cursor.execute(f"VACUUM ANALYZE {TABLE}")


def _months() -> list[date]:
    """The firsts of the last months and of this one."""
    months = [datetime.now(UTC).date().replace(day=1)]
    for _ in range(MONTHS - 1):
        months.insert(0, (months[0] - timedelta(days=1)).replace(day=1))
    return months


@contextlib.contextmanager
def _database() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="tesslate-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root PostgreSQL runs under another account
        postgres = Postgres(folder / "postgres", durable=False)
        with running(postgres):
            postgres.ensure_database("tesslate")
            os.environ.update(
                {
                    "DEBUG": "true",
                    "DATA_DIR": name,
                    "DATABASE_URL": postgres.url("tesslate"),
                    "DJANGO_SETTINGS_MODULE": "tesslate.settings",
                    "LOG_LEVEL": "ERROR",
                }
            )
            import django

            django.setup()
            from django.core.management import call_command

            from chatproxy.partitions import make_partitions

            call_command("migrate", verbosity=0)
            for month in _months():
                make_partitions(month, ahead=0)
            yield
            connection.close()

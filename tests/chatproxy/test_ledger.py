"""The ledger: batches, bad times, and what survives them."""

import re
import threading
import time
from collections.abc import Sequence

import orjson
import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from chatproxy.callers import Caller
from chatproxy.exchange import Outcome, Usage, new_exchange, time_of
from chatproxy.ledger import Ledger, write_rows
from chatproxy.models import ChatRequest
from chatproxy.spill import REJECTED, Spill

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def spill(tmp_path):
    return Spill(tmp_path / "spill")


def record(user, **fields):
    exchange = new_exchange("chat")
    exchange.caller = Caller(user.pk, "A", None, 1, 100, timezone.now(), 1, None, None)
    exchange.model = "basic"
    exchange.outcome = Outcome.COMPLETED
    exchange.status = 200
    exchange.usage = Usage(11, 3)
    return {**(exchange.record() or {}), **fields}


@pytest.fixture
def start(spill):
    running = []

    def make(**options) -> Ledger:
        ledger = Ledger(spill, **options)
        ledger.start()
        running.append(ledger)
        return ledger

    yield make
    for ledger in running:
        ledger.close()


def files(spill):
    return list(spill._folder.glob("*.jsonl")) if spill._folder.exists() else []


def test_what_is_put_is_in_the_database_within_a_second(start, user):
    ledger = start()
    ledger.put(record(user))
    deadline = time.monotonic() + 1
    while not ChatRequest.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    row = ChatRequest.objects.get()
    assert (row.user, row.prompt_tokens, row.outcome) == (user, 11, Outcome.COMPLETED)
    assert time_of(row.id) == round(row.started_at.timestamp() * 1000)


def test_a_process_in_debug_mode_does_not_remember_every_row_it_wrote(start, user, settings):
    settings.DEBUG = True
    remembered: list[int] = []

    def write(rows: Sequence[bytes]) -> None:
        remembered.append(len(connection.queries_log))
        write_rows(rows)

    ledger = start(write=write)
    for _ in range(3):
        ledger.put(record(user))
        assert ledger.flush()

    assert remembered == [0, 0, 0]


def test_closing_writes_what_is_queued(start, user):
    ledger = start()
    for _ in range(1200):
        ledger.put(record(user))
    ledger.close()
    assert ChatRequest.objects.count() == 1200


def test_U09_a_row_written_twice_counts_once(user):
    row = orjson.dumps(record(user))
    write_rows([row])
    write_rows([row, row])
    assert ChatRequest.objects.count() == 1


class Flaky:
    """A database that is down while told so."""

    def __init__(self):
        self.is_down = True

    def __call__(self, rows):
        if self.is_down:
            raise OperationalError("down")
        write_rows(rows)


def test_while_the_database_is_down_rows_go_to_disk_and_come_back(start, spill, user, monkeypatch):
    monkeypatch.setattr("chatproxy.ledger.REPLAY_SECONDS", 0.2)
    database = Flaky()
    ledger = start(write=database)
    for _ in range(5):
        ledger.put(record(user))
    assert ledger.flush()
    assert not ChatRequest.objects.exists()
    assert files(spill)
    database.is_down = False
    deadline = time.monotonic() + 5
    while ChatRequest.objects.count() < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ChatRequest.objects.count() == 5
    deadline = time.monotonic() + 5
    while files(spill) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not files(spill)


def test_a_full_queue_spills_instead_of_blocking_or_dropping(start, spill, user):
    go_on = threading.Event()

    def hangs(rows):
        go_on.wait(10)
        write_rows(rows)

    ledger = start(write=hangs, capacity=3)
    begun = time.monotonic()
    for _ in range(50):
        ledger.put(record(user))
    assert time.monotonic() - begun < 0.5
    assert files(spill)
    go_on.set()
    ledger.close()
    spill.replay(write_rows, 100)
    assert ChatRequest.objects.count() == 50


def test_what_a_dead_process_left_is_taken_over_and_what_a_live_one_holds_is_not(tmp_path, user):
    dead, alive = Spill(tmp_path), Spill(tmp_path)
    dead.append([orjson.dumps(record(user))])
    dead.close()
    alive.append([orjson.dumps(record(user))])
    assert Spill(tmp_path).replay(write_rows, 100) == 1
    assert ChatRequest.objects.count() == 1
    alive.close()
    assert Spill(tmp_path).replay(write_rows, 100) == 1
    assert ChatRequest.objects.count() == 2


def test_a_torn_line_is_set_aside_and_the_rest_written(tmp_path, user):
    good = orjson.dumps(record(user))
    (tmp_path / "a.jsonl").write_bytes(good + b"\n" + good[:50])
    Spill(tmp_path).replay(write_rows, 100)
    assert ChatRequest.objects.count() == 1
    assert (tmp_path / REJECTED).read_bytes() == good[:50] + b"\n"


def test_one_row_that_the_database_refuses_does_not_take_the_others_along(start, spill, user):
    ledger = start()
    for n in range(20):
        ledger.put(record(user, plan_code="x" * 500 if n == 7 else "free"))
    ledger.close()
    assert ChatRequest.objects.count() == 19
    assert b"x" * 500 in (spill._folder / REJECTED).read_bytes()


# Two weeks of 40,000 requests by 400 users of 200 models.
MANY = """
INSERT INTO chatproxy_chatrequest
SELECT gen_random_uuid(), now() - n * interval '30 seconds', n % 400, NULL, NULL, NULL, 'free',
    'model-' || n % 200, '', 'chat', true, '', 'completed', 200, '', NULL, 10, 5, 0.001, false, 1,
    2, '', '', '[]'
FROM generate_series(1, 40000) AS n
"""
QUESTIONS = {
    "a user's month": (
        "SELECT model, sum(prompt_tokens), sum(completion_tokens), sum(cost)"
        " FROM chatproxy_chatrequest WHERE user_id = 7"
        " AND started_at >= now() - interval '1 month' AND started_at < now() GROUP BY 1"
    ),
    "a model's day": (
        "SELECT outcome, count(*), sum(cost) FROM chatproxy_chatrequest WHERE model = 'model-7'"
        " AND started_at >= now() - interval '1 day' AND started_at < now() GROUP BY 1"
    ),
}


def test_a_users_month_and_a_models_day_are_index_reads(user):
    with connection.cursor() as cursor:
        cursor.execute(MANY)
        cursor.execute("VACUUM ANALYZE chatproxy_chatrequest")
        for name, question in QUESTIONS.items():
            cursor.execute(f"EXPLAIN {question}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            column = name.split("'")[0].removeprefix("a ")
            index = rf"Index (Only )?Scan (using|on) \S+_{column}(_id)?_started_at"
            assert re.search(index, plan), plan
            assert "Seq Scan" not in plan.replace("Seq Scan on chatproxy_chatrequest_default", "")


def test_the_newest_requests_are_read_in_order_without_sorting_all(user):
    with connection.cursor() as cursor:
        cursor.execute(MANY)
        cursor.execute("ANALYZE chatproxy_chatrequest")
        newest = "SELECT id FROM chatproxy_chatrequest ORDER BY started_at DESC LIMIT 50"
        cursor.execute(f"EXPLAIN {newest}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index" in plan
    # Each month's newest rows, merged: nothing is sorted.
    assert not re.search(r"(^|-> +)Sort ", plan), plan

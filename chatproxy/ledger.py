"""Write what happened, off the hot path: queue, batches, and a spill on disk for bad times.

``put`` costs an append. A thread writes batches a few times a second. Nothing is ever dropped:
what the database does not take now (down, slow, queue full) goes to a file in CHAT_SPILL_DIR and
is written when the database is back, by this process or by the next one that starts. A row that
is written twice counts once: its id is its own idempotency key.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from django.db import DataError, Error, connection, reset_queries, transaction

from chatproxy import metrics
from chatproxy.models import ChatRequest, public_request_id
from chatproxy.spill import Spill

logger = logging.getLogger(__name__)

Record = dict[str, Any]

FLUSH_SECONDS = 0.25
MOST_PER_BATCH = 500
MOST_QUEUED = 20_000
REPLAY_SECONDS = 5.0
# A database that takes longer for one batch counts as down.
STATEMENT_TIMEOUT_MS = 5000

COLUMNS = {
    "id": "uuid",
    "started_at": "bigint",  # milliseconds since the epoch, as in the id
    "user_id": "bigint",
    "organization_id": "bigint",
    "virtual_key_id": "bigint",
    "api_token_id": "bigint",
    "plan_code": "text",
    "model": "text",
    "served_model": "text",
    "client": "text",
    "is_stream": "boolean",
    "idempotency_key": "text",
    "outcome": "text",
    "status": "smallint",
    "error_code": "text",
    "decision": "jsonb",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "cost": "numeric",
    "is_estimated": "boolean",
    "ttfb_ms": "integer",
    "duration_ms": "integer",
    "gateway_call_id": "text",
    "gateway_response_id": "text",
    "prompt_versions": "jsonb",
}
# Names and types above are all that is put in.
INSERT = "INSERT INTO chatproxy_chatrequest ({names}) SELECT {values} FROM {rows} {once}".format(  # noqa: S608
    names=", ".join(COLUMNS),
    values=", ".join(
        "to_timestamp(started_at / 1000.0)" if name == "started_at" else name for name in COLUMNS
    ),
    # One JSON parameter for the whole batch: PostgreSQL, not this process, takes it apart.
    rows="jsonb_to_recordset(%s::jsonb) AS r({})".format(
        ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    ),
    once="ON CONFLICT (id, started_at) DO NOTHING",
)


FAULTS = frozenset({ChatRequest.Outcome.FAILED, ChatRequest.Outcome.BROKEN})


def _tell_fault(record: Record) -> None:
    """One line for a request that failed, under the ids by which caller and gateway know it."""
    logger.info(
        "A chat request %s",
        record["outcome"],
        extra={
            "request_id": public_request_id(uuid.UUID(record["id"])),
            "gateway_call_id": record["gateway_call_id"],
            "user_id": record["user_id"],
            "model": record["model"],
            "code": record["error_code"],
            "status": record["status"],
            "duration_ms": record["duration_ms"],
        },
    )


def write_rows(rows: Sequence[bytes]) -> None:
    """Insert serialized records in one statement; those already there are left alone."""
    batch = (b"[" + b",".join(rows) + b"]").decode()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        cursor.execute(INSERT, [batch])


def write_what_can_be(
    rows: Sequence[bytes], write: Callable[[Sequence[bytes]], None]
) -> list[bytes]:
    """Write a batch; when single rows are at fault, all others. Answers those at fault."""
    try:
        write(rows)
    except DataError:
        if len(rows) == 1:
            return list(rows)
        half = len(rows) // 2
        return write_what_can_be(rows[:half], write) + write_what_can_be(rows[half:], write)
    return []


class Ledger:
    """One per process. ``start`` before the first ``put``, ``close`` at the end."""

    def __init__(
        self,
        spill: Spill,
        *,
        write: Callable[[Sequence[bytes]], None] = write_rows,
        capacity: int = MOST_QUEUED,
    ) -> None:
        self._spill = spill
        self._write = write
        self._capacity = capacity
        self._queue: deque[Record] = deque()
        self._in_hand = 0
        self._stopping = threading.Event()
        self._hurried = threading.Event()
        self._flushed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._next_replay = 0.0
        self._pause_until = 0.0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="chat-ledger", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Take a record. Never blocks on the database, never drops."""
        if len(self._queue) >= self._capacity:
            self._spill.append([orjson.dumps(record)])
            metrics.LEDGER_SPILLED.inc()
            return
        self._queue.append(record)

    def __len__(self) -> int:
        return len(self._queue) + self._in_hand

    def flush(self, timeout: float = 10.0) -> bool:
        """Have everything put before in the database or on disk, without waiting for its time."""
        deadline = time.monotonic() + timeout
        while len(self) and time.monotonic() < deadline:
            with self._flushed:
                self._hurried.set()
                self._flushed.wait(FLUSH_SECONDS)
        return not len(self)

    def close(self) -> None:
        """Write or spill what is queued, then end the thread."""
        self._stopping.set()
        self._hurried.set()
        if self._thread is not None:
            self._thread.join()
        self._spill.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._hurried.wait(FLUSH_SECONDS)
            self._hurried.clear()
            self._step()
        while self._queue:
            self._step()
        connection.close()

    def _step(self) -> None:
        try:
            self.write_queued()
            self.replay_spilled()
        except Exception:
            logger.exception("The ledger stumbled")
        # With DEBUG Django keeps what it was asked until a request begins; here none ever does.
        reset_queries()
        metrics.LEDGER_QUEUE.set(len(self))
        metrics.USERS_OVER_LIMITS.set(metrics.offenders.count())
        with self._flushed:
            self._flushed.notify_all()

    def write_queued(self) -> None:
        """One pass over what is queued now."""
        for _ in range(-(-len(self._queue) // MOST_PER_BATCH)):
            batch = [self._queue.popleft() for _ in range(min(MOST_PER_BATCH, len(self._queue)))]
            self._in_hand = len(batch)
            try:
                self._save([orjson.dumps(record) for record in batch])
            finally:
                self._in_hand = 0
            for record in batch:
                metrics.count(record)
                if record["outcome"] in FAULTS:
                    _tell_fault(record)

    def replay_spilled(self) -> None:
        """Now and then, write what was spilled, here or by a process that is gone."""
        now = time.monotonic()
        if now < self._next_replay or now < self._pause_until:
            return
        self._next_replay = now + REPLAY_SECONDS
        try:
            self._spill.replay(self._write_all, MOST_PER_BATCH)
        except Error as error:
            self._back_off(error)

    def _save(self, rows: list[bytes]) -> None:
        if time.monotonic() < self._pause_until:
            self._spill_rows(rows)
            return
        try:
            self._write_all(rows)
        except Error as error:
            self._back_off(error)
            self._spill_rows(rows)
        except Exception:
            self._spill_rows(rows)
            raise

    def _write_all(self, rows: Sequence[bytes]) -> None:
        for row in write_what_can_be(rows, self._write):
            logger.error("The database refuses a ledger row; kept in the spill folder")
            self._spill.reject(row)
            metrics.LEDGER_REJECTED.inc()

    def _spill_rows(self, rows: list[bytes]) -> None:
        self._spill.append(rows)
        metrics.LEDGER_SPILLED.inc(len(rows))

    def _back_off(self, error: Error) -> None:
        """Leave a database in trouble alone for a moment."""
        logger.warning("The ledger cannot be written: %s", type(error).__name__)
        connection.close()
        self._pause_until = time.monotonic() + REPLAY_SECONDS

"""What a stand-in remembers across restarts, also after kill -9: one SQLite file.

The stand-in keeps its objects in memory and answers from there; the journal is written behind
them. `commit()` makes everything written so far survive the process; `commit_soon()` does so
within FLUSH_SECONDS, for work too frequent to be committed one by one. (With synchronous off,
SQLite leaves the writing to the operating system: a process that dies loses nothing committed, a
machine that loses power may.)

One journal belongs to one event loop; nothing here is for several threads.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

FLUSH_SECONDS = 0.05

SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID
"""


class Journal:
    """Rows of JSON by kind and id, in the file at `path`, or in memory where there is none."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        # The app may be built in one thread and served in another.
        self.database = sqlite3.connect(
            path or ":memory:", isolation_level=None, check_same_thread=False
        )
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.execute(SCHEMA)
        self.pending: dict[tuple[str, str], Callable[[], Any] | None] = {}
        self.scheduled: asyncio.TimerHandle | None = None
        # Called in the same transaction, for tables that a stand-in keeps beside the rows.
        self.before_commit: list[Callable[[sqlite3.Connection], None]] = []

    def load(self, kind: str) -> Iterator[tuple[str, Any]]:
        rows = self.database.execute("SELECT id, value FROM rows WHERE kind = ?", (kind,))
        for row_id, value in rows:
            yield row_id, orjson.loads(value)

    def put(self, kind: str, row_id: str, value: Callable[[], Any]) -> None:
        """Note that a row changed. `value` is asked at the commit, for what it is by then."""
        self.pending[kind, row_id] = value

    def delete(self, kind: str, row_id: str) -> None:
        self.pending[kind, row_id] = None

    def commit(self) -> None:
        if self.scheduled is not None:
            self.scheduled.cancel()
            self.scheduled = None
        pending, self.pending = self.pending, {}
        gone = [key for key, value in pending.items() if value is None]
        kept = [
            (*key, orjson.dumps(value())) for key, value in pending.items() if value is not None
        ]
        execute, execute_many = self.database.execute, self.database.executemany
        execute("BEGIN")
        if gone:
            execute_many("DELETE FROM rows WHERE kind = ? AND id = ?", gone)
        if kept:
            execute_many("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", kept)
        for write in self.before_commit:
            write(self.database)
        execute("COMMIT")

    def commit_soon(self) -> None:
        if self.scheduled is None:
            loop = asyncio.get_running_loop()
            self.scheduled = loop.call_later(FLUSH_SECONDS, self._commit_scheduled)

    def clear(self) -> None:
        """Forget every row of every kind."""
        self.pending.clear()
        self.database.execute("DELETE FROM rows")

    def close(self) -> None:
        self.commit()
        self.database.close()

    def _commit_scheduled(self) -> None:
        self.scheduled = None
        self.commit()

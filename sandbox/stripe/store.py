"""Keeping state across restarts: one table of records, written once per change, read at start."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    space: str  # "object", "event", "answer" (idempotency), "delivery", "setting"
    key: str
    seq: int  # order within its space
    body: bytes | None  # JSON; None removes the record


class Store(Protocol):
    # False: nobody will read it again, so callers need not serialize.
    persistent: bool

    def load(self, space: str) -> Iterator[Record]: ...

    def save(self, records: Iterable[Record]) -> None:
        """Write all of them or none."""
        ...

    def clear(self) -> None: ...

    def close(self) -> None: ...


class MemoryStore:
    """For tests and simulations: nothing outlives the process."""

    persistent = False

    def load(self, space: str) -> Iterator[Record]:
        return iter(())

    def save(self, records: Iterable[Record]) -> None:
        pass

    def clear(self) -> None:
        pass

    def close(self) -> None:
        pass


class SQLiteStore:
    """A file in a folder. Survives the death of the process at any moment."""

    persistent = True

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The engine's lock serializes all use, whichever thread it comes from.
        self._db = sqlite3.connect(
            folder / "stripe.sqlite3", check_same_thread=False, isolation_level=None
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        # Nothing that was written is lost with the process; a machine that loses power may.
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS record (space TEXT, key TEXT, seq INTEGER, body BLOB,"
            " PRIMARY KEY (space, key))"
        )

    def load(self, space: str) -> Iterator[Record]:
        rows = self._db.execute(
            "SELECT space, key, seq, body FROM record WHERE space = ? ORDER BY seq", (space,)
        )
        return (Record(*row) for row in rows.fetchall())

    def save(self, records: Iterable[Record]) -> None:
        batch = list(records)
        gone = [(record.space, record.key) for record in batch if record.body is None]
        kept = [record for record in batch if record.body is not None]
        self._db.execute("BEGIN")
        try:
            self._db.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", kept)
            self._db.executemany("DELETE FROM record WHERE space = ? AND key = ?", gone)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def clear(self) -> None:
        self._db.execute("DELETE FROM record")

    def close(self) -> None:
        self._db.close()

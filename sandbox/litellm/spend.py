"""The spend log, one row per call whatever its end, and the daily sums that LiteLLM keeps of it.

Rows wait in memory until the journal's next commit; whoever reads commits first. Two calls with
one request id make one row, as at LiteLLM.
"""

import sqlite3
import time
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from sandbox.state import Journal

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    request_id TEXT PRIMARY KEY, call_id TEXT, api_key TEXT, key_alias TEXT, user_id TEXT,
    team_id TEXT, model TEXT, model_id TEXT, model_group TEXT, provider TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, input_cost REAL, output_cost REAL,
    started REAL, first REAL, ended REAL, status TEXT, error_code INTEGER, error_class TEXT,
    error_message TEXT, rate_type TEXT, end_user TEXT
);
CREATE INDEX IF NOT EXISTS calls_started ON calls (started);
CREATE INDEX IF NOT EXISTS calls_api_key ON calls (api_key, started);
CREATE TABLE IF NOT EXISTS daily (
    date TEXT, api_key TEXT, model TEXT, model_group TEXT, provider TEXT, user_id TEXT,
    spend REAL, prompt_tokens INTEGER, completion_tokens INTEGER, succeeded INTEGER,
    failed INTEGER, milliseconds INTEGER, timed INTEGER,
    PRIMARY KEY (date, api_key, model, model_group, provider, user_id)
) WITHOUT ROWID;
"""
INSERT = (
    "INSERT OR IGNORE INTO calls VALUES "
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
ADD = """
INSERT INTO daily VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    spend = spend + excluded.spend,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    succeeded = succeeded + excluded.succeeded,
    failed = failed + excluded.failed,
    milliseconds = milliseconds + excluded.milliseconds,
    timed = timed + excluded.timed
"""


@dataclass(slots=True)
class Call:
    """The fields in the order of the table's columns."""

    request_id: str
    call_id: str
    api_key: str
    key_alias: str | None
    user_id: str | None
    team_id: str | None
    model: str
    model_id: str
    model_group: str
    provider: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_cost: float = 0.0
    output_cost: float = 0.0
    started: float = 0.0
    first: float | None = None
    ended: float = 0.0
    status: str = "success"
    error_code: int | None = None
    error_class: str | None = None
    error_message: str | None = None
    rate_type: str | None = None
    end_user: str | None = None

    @property
    def spend(self) -> float:
        return self.input_cost + self.output_cost


row_of = attrgetter(*[field.name for field in fields(Call)])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls. Moments are seconds; None is no condition."""

    since: float | None = None
    until: float | None = None
    api_key: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    status: str | None = None

    def condition(self) -> tuple[str, list[Any]]:
        parts: list[tuple[str, Any]] = [
            ("started >= ?", self.since),
            ("started <= ?", self.until),
            ("api_key = ?", self.api_key),
            ("user_id = ?", self.user_id),
            ("request_id = ?", self.request_id),
            ("status = ?", self.status),
        ]
        used = [(text, value) for text, value in parts if value is not None]
        where = " AND ".join(text for text, _ in used)
        return (f"WHERE {where}" if where else ""), [value for _, value in used]


class SpendLog:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.database = journal.database
        self.database.executescript(SCHEMA)
        self.pending: list[Call] = []
        journal.before_commit.append(self._write)

    def add(self, call: Call) -> None:
        self.pending.append(call)
        self.journal.commit_soon()

    def count(self, wanted: Wanted) -> int:
        self.journal.commit()
        where, values = wanted.condition()
        query = f"SELECT count(*) FROM calls {where}"  # noqa: S608 - fixed conditions
        return int(self.database.execute(query, values).fetchone()[0])

    def calls(self, wanted: Wanted, *, limit: int = -1, offset: int = 0) -> list[Call]:
        """Newest first."""
        self.journal.commit()
        where, values = wanted.condition()
        query = (
            f"SELECT * FROM calls {where} "  # noqa: S608 - fixed conditions
            "ORDER BY started DESC, rowid DESC LIMIT ? OFFSET ?"
        )
        return [Call(*row) for row in self.database.execute(query, [*values, limit, offset])]

    def days(
        self, first: str, last: str, *, api_key: str | None, user_id: str | None, model: str | None
    ) -> list[tuple[Any, ...]]:
        """Rows of the daily table, newest day first."""
        self.journal.commit()
        query = "SELECT * FROM daily WHERE date BETWEEN ? AND ?"
        values = [first, last]
        for column, value in (("api_key", api_key), ("user_id", user_id), ("model_group", model)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(value)
        query += " ORDER BY date DESC, api_key, model, model_group"
        return list(self.database.execute(query, values))

    def clear(self) -> None:
        self.pending.clear()
        self.database.execute("DELETE FROM calls")
        self.database.execute("DELETE FROM daily")

    def _write(self, database: sqlite3.Connection) -> None:
        if not self.pending:
            return
        calls, self.pending = self.pending, []
        database.executemany(INSERT, map(row_of, calls))
        database.executemany(ADD, map(_daily, calls))


def _daily(call: Call) -> tuple[Any, ...]:
    good = call.status == "success"
    return (
        time.strftime("%Y-%m-%d", time.gmtime(call.started)),
        call.api_key,
        call.model,
        call.model_group,
        call.provider,
        call.user_id or "",
        call.spend,
        call.prompt_tokens,
        call.completion_tokens,
        int(good),
        int(not good),
        round((call.ended - call.started) * 1000) if good else 0,
        int(good),
    )

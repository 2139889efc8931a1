"""The journal: what a stand-in remembers."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from sandbox.state import FLUSH_SECONDS, Journal


def test_committed_rows_are_there_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "folder" / "state.sqlite")
    journal.put("key", "a", lambda: {"n": 1})
    journal.put("key", "b", lambda: {"n": 2})
    journal.put("budget", "a", lambda: [3])
    journal.commit()
    journal.delete("key", "b")
    journal.close()
    again = Journal(tmp_path / "new" / "folder" / "state.sqlite")
    assert dict(again.load("key")) == {"a": {"n": 1}}
    assert dict(again.load("budget")) == {"a": [3]}


def test_a_row_is_written_as_it_is_at_the_commit() -> None:
    journal = Journal(None)
    row = {"spend": 1}
    journal.put("key", "a", lambda: row)
    row["spend"] = 2
    journal.commit()
    assert dict(journal.load("key")) == {"a": {"spend": 2}}


async def test_commit_soon_commits_by_itself() -> None:
    journal = Journal(None)
    journal.put("key", "a", lambda: 1)
    journal.commit_soon()
    assert dict(journal.load("key")) == {}
    await asyncio.sleep(FLUSH_SECONDS * 3)
    assert dict(journal.load("key")) == {"a": 1}


def test_clear_forgets_everything() -> None:
    journal = Journal(None)
    journal.put("key", "a", lambda: 1)
    journal.commit()
    journal.put("key", "b", lambda: 1)
    journal.clear()
    journal.commit()
    assert dict(journal.load("key")) == {}


WRITER = """
import os, sys
from pathlib import Path
from sandbox.state import Journal
journal = Journal(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    journal.put("key", str(number), lambda: number)
    journal.commit()
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(50)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        told = max([told, *map(int, writer.stdout.read().split())])
    rows = dict(Journal(path).load("key"))
    assert len(rows) >= told

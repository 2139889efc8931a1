"""Ledger rows on disk for as long as the database does not take them.

One append-only file per process, one JSON object a line, locked by its writer for as long as the
writer lives: a file that can be locked is nobody's, and whoever locks it may write it to the
database and remove it.
"""

import fcntl
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl"
REJECTED = "rejected.txt"


class Spill:
    """A folder of spill files, one of them ours while there is something in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def append(self, rows: Sequence[bytes]) -> None:
        """Keep rows; they survive this process. Callable from any thread."""
        data = b"".join(row + b"\n" for row in rows)
        with self._lock:
            if self._descriptor is None:
                self._descriptor = self._open_new()
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])

    def reject(self, row: bytes) -> None:
        """Keep a row that the database will never take, for a person to look at."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / REJECTED).open("ab") as file:
            file.write(row + b"\n")

    def replay(self, write: Callable[[Sequence[bytes]], None], batch_size: int) -> int:
        """Write out every file that is ours or nobody's, and remove it. Answers the rows.

        Raises what ``write`` raises; the file stays then, and rows already written count once.
        """
        self._let_go()
        count = 0
        if not self._folder.is_dir():
            return count
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            count += self._replay_file(path, write, batch_size)
        return count

    def close(self) -> None:
        """Let another process, or this one's next start, take over what is left."""
        self._let_go()

    def _open_new(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{uuid.uuid4().hex}{SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def _let_go(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _replay_file(
        self, path: Path, write: Callable[[Sequence[bytes]], None], batch_size: int
    ) -> int:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # another process has just finished it
            return 0
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # its writer lives
                return 0
            count = 0
            for batch in _batches(self._rows(file.read().splitlines()), batch_size):
                write(batch)
                count += len(batch)
            path.unlink(missing_ok=True)
        return count

    def _rows(self, lines: list[bytes]) -> Iterator[bytes]:
        for line in lines:
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError:
                # The machine went down while this line was written.
                logger.error("A spilled ledger row is torn; kept in the spill folder")
                self.reject(line)
            else:
                yield line


def _batches(rows: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

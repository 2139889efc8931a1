"""Short-lived, bounded memory of answers that cost a database query, and the threads that ask."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

# Each thread keeps a database connection; a web process needs few, since warm requests need none.
DATABASE_THREADS = 4
# While the database is down an answer that was true a moment ago is better than none.
STALE_SECONDS = 120.0


class DatabaseThreads:
    """Runs blocking work (ORM, certificate fetches) off the event loop."""

    def __init__(self, size: int = DATABASE_THREADS) -> None:
        self._connections: list[BaseDatabaseWrapper] = []
        self._pool = ThreadPoolExecutor(
            size, thread_name_prefix="chat-db", initializer=self._enter_thread
        )

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, _with_connection, work)

    def close(self) -> None:
        """End the threads, then close the connections that they leave behind."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()

    def _enter_thread(self) -> None:
        connection = connections["default"]
        connection.inc_thread_sharing()  # so that close() may be called from outside
        self._connections.append(connection)


def _with_connection(work: Callable[[], T]) -> T:
    """Django opens connections per thread and tests them per request; there is no request here."""
    close_old_connections()
    try:
        return work()
    except (InterfaceError, DatabaseError):
        connections.close_all()
        raise


class Remembered(Generic[K, V]):
    """Answers kept for ``seconds``, at most ``size`` of them; the oldest leave first.

    Loading happens in a database thread, once per key however many ask. An answer that was being
    loaded while its key was forgotten is given to those who asked before, and not kept. When
    the database fails, an answer that was not forgotten is used for STALE_SECONDS longer.
    """

    def __init__(
        self,
        *,
        threads: DatabaseThreads,
        seconds: float,
        size: int,
        lifetime: Callable[[V], float | None] | None = None,
    ) -> None:
        self._threads = threads
        self._seconds = seconds
        self._size = size
        # Seconds that this answer may be kept, where that is less than usual.
        self._lifetime = lifetime
        self._kept: dict[K, tuple[float, V]] = {}
        self._loading: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """The answer if it is at hand. Costs a dictionary look-up."""
        entry = self._kept.get(key)
        if entry is None or entry[0] < time.monotonic():
            return None
        return entry[1]

    async def fetch(self, key: K, load: Callable[[], V]) -> V:
        """The answer, loaded where it is not at hand. Raises what ``load`` raises."""
        entry = self._kept.get(key)
        if entry is not None and entry[0] >= time.monotonic():
            return entry[1]
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._fill(key, load))
            self._loading[key] = task
        # One caller leaving must not take the answer away from the others.
        return await asyncio.shield(task)

    def forget(self, key: K) -> None:
        self._kept.pop(key, None)
        self._loading.pop(key, None)

    def forget_where(self, matches: Callable[[V], bool]) -> None:
        """Forget the answers that match, and whatever is being loaded."""
        for key in [key for key, (_, value) in self._kept.items() if matches(value)]:
            del self._kept[key]
        self._loading.clear()

    def forget_all(self) -> None:
        self._kept.clear()
        self._loading.clear()

    async def _fill(self, key: K, load: Callable[[], V]) -> V:
        me = asyncio.current_task()
        try:
            value = await self._threads.run(load)
        except (InterfaceError, DatabaseError):
            stale = self._kept.get(key)
            if stale is None or stale[0] + STALE_SECONDS < time.monotonic():
                raise
            return stale[1]
        else:
            if self._loading.get(key) is me:
                self._keep(key, value)
            return value
        finally:
            if self._loading.get(key) is me:
                del self._loading[key]

    def _keep(self, key: K, value: V) -> None:
        seconds = self._seconds
        if self._lifetime is not None and (less := self._lifetime(value)) is not None:
            seconds = min(seconds, less)
        self._kept.pop(key, None)
        while len(self._kept) >= self._size:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (time.monotonic() + seconds, value)

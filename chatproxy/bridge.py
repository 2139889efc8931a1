"""The chat path's event loop for callers that have none: Django's own handlers.

A runtime belongs to one event loop and outlives requests, while Django gives a view either a
thread without a loop (WSGI) or a loop that is not to be blocked (ASGI). So the DRF entrance keeps
a loop of its own in a thread, begun at its first request.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from chatproxy.runtime import Runtime

T = TypeVar("T")


class Bridge:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="chat-bridge", daemon=True
        )
        self._thread.start()
        self.runtime: Runtime = self.run(_started())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine. For threads."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def iterate(self, chunks: AsyncIterator[bytes]) -> Iterator[bytes]:
        """Hand an iterator of the loop to a thread."""
        try:
            while (chunk := self.run(_next(chunks))) is not None:
                yield chunk
        finally:
            self.run(_close(chunks))

    async def aiterate(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hand an iterator of the loop to another loop. Left early, the client has left."""
        try:
            while (chunk := await self._elsewhere(_next(chunks))) is not None:
                yield chunk
        finally:
            await self._elsewhere(_close(chunks))

    async def _elsewhere(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        self.run(self.runtime.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_lock = threading.Lock()
_bridge: Bridge | None = None


def bridge() -> Bridge:
    """This process's bridge, made when first asked for."""
    global _bridge
    with _lock:
        if _bridge is None:
            _bridge = Bridge()
        return _bridge


def close_bridge() -> None:
    """End it and everything it holds; the next call of ``bridge`` makes another."""
    global _bridge
    with _lock:
        if _bridge is not None:
            _bridge.close()
            _bridge = None


async def _started() -> Runtime:
    runtime = Runtime()
    runtime.start()
    return runtime


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _close(chunks: AsyncIterator[bytes]) -> None:
    if hasattr(chunks, "aclose"):
        await chunks.aclose()

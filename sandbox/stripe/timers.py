"""What happens by itself: renewals, retries, expiries, each at its moment and in order.

A kind of object registers two functions: `due` tells when something next happens to an object (or
None), `fire` makes it happen. Whenever an object changes, its due moment is asked again.
"""

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]
Due = Callable[["World", Json], int | None]
Fire = Callable[["World", Json], None]


class Timer(NamedTuple):
    due: Due
    fire: Fire
    rank: int  # at one moment, lower ranks go first


TIMERS: dict[str, Timer] = {}


def register(kind: str, due: Due, fire: Fire, *, rank: int) -> None:
    TIMERS[kind] = Timer(due, fire, rank)


class Alarms:
    """Moments per lane (a test clock's id, or "" for everything on the common clock)."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, int, int, str]]] = {}
        self._set: dict[str, tuple[str, int]] = {}

    def set(self, key: str, lane: str, due: int | None, rank: int, seq: int) -> None:
        if due is None:
            self._set.pop(key, None)
        elif self._set.get(key) != (lane, due):
            self._set[key] = (lane, due)
            heapq.heappush(self._heaps.setdefault(lane, []), (due, rank, seq, key))

    def next(self, lane: str) -> int | None:
        heap = self._heaps.get(lane, [])
        while heap and self._set.get(heap[0][3]) != (lane, heap[0][0]):
            heapq.heappop(heap)  # overtaken by a later change
        return heap[0][0] if heap else None

    def pop(self, lane: str) -> str:
        """The key whose moment `next` told."""
        key = heapq.heappop(self._heaps[lane])[3]
        self._set.pop(key, None)
        return key

    def clear(self) -> None:
        self._heaps.clear()
        self._set.clear()

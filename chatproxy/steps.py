"""Take a coroutine as far as it gets right here, where there is no task to wait in.

A task per callback costs more than most callbacks do. What an ASGI server's ``send`` and
``receive`` do is over at once, or waits for one future; so they can be begun outside a task, and
finished in one where they have to wait after all.
"""

import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

Future = Any
# What an awaitable's ``__await__`` gives: it yields the futures that it waits for.
Steps = Generator[Future, Any, Any]


def begin(steps: Steps) -> Future | None:
    """Run until it ends (None) or waits: what it waits for, to be given to ``rest``."""
    try:
        return steps.send(None)
    except StopIteration:
        return None


@types.coroutine
def rest(steps: Steps, waiting: Future) -> Generator[Future, None, None]:
    """Await the rest of what was begun outside this task."""
    while True:
        try:
            yield waiting
        except BaseException:
            steps.close()
            raise
        try:
            waiting = steps.send(None)
        except StopIteration:
            return


class Departure:
    """Calls ``act`` once the client is gone, by the server's ``receive``; until ``close``."""

    __slots__ = ("_act", "_receive", "_receiving")

    def __init__(self, receive: Callable[[], Awaitable[Any]], act: Callable[[], None]) -> None:
        self._receive = receive
        self._act = act
        self._receiving: Steps | None = receive().__await__()
        self._step()

    def _step(self, waited_for: Future = None) -> None:
        while self._receiving is not None:  # what it waited for may come just after the end
            try:
                self._receiving.send(None).add_done_callback(self._step)
            except StopIteration as end:
                if end.value["type"] == "http.disconnect":
                    self._receiving = None
                    self._act()
                    return
                self._receiving = self._receive().__await__()
            else:
                return

    def close(self) -> None:
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.close()

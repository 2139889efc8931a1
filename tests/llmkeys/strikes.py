"""What goes wrong at the gateway's edge in a random history, and after how many calls."""

from collections.abc import Callable
from typing import Any

import httpx
from hypothesis import strategies as st

from tests.llmkeys import faults
from tests.llmkeys.faults import answering
from tests.llmkeys.standin import Fault, StandIn


class Crash(BaseException):
    """kill -9: nothing catches it, nothing after it happens."""


def crash(request: httpx.Request) -> httpx.Response | None:
    raise Crash


FAULTS: dict[str, Callable[[httpx.Request], httpx.Response | None]] = {
    "refused": faults.refused,
    "silent": faults.silent,
    "torn": faults.torn,
    "500": answering(500),
    "503": answering(503),
    "429": answering(429, **{"retry-after": "1"}),
    "401": answering(401),
    "garbage": answering(200, {"unexpected": True}),
    "crash": crash,
}
# The first three of these never reach the gateway; a lost answer can look like any other.
BEFORE = ["refused", "silent", "500", "503", "429", "401", "crash"]
AFTER = ["silent", "torn", "500", "503", "garbage", "crash"]

STRIKES = st.lists(
    st.tuples(
        st.integers(0, 3),  # calls that go well first
        st.one_of(
            st.tuples(st.just("before"), st.sampled_from(BEFORE)),
            st.tuples(st.just("after"), st.sampled_from(AFTER)),
        ),
    ),
    max_size=2,
)


def line_up(standin: StandIn, strikes: Any) -> None:
    """Let these strike, each after its number of calls that go well."""
    queues: dict[str, list[tuple[int, str]]] = {"before": [], "after": []}
    for wait, (when, name) in strikes:
        queues[when].append((wait, name))
    standin.before = _striking(queues["before"])
    standin.after = _striking(queues["after"])


def _striking(queue: list[tuple[int, str]]) -> Fault | None:
    if not queue:
        return None
    left = [queue.pop(0)]

    def fault(request: httpx.Request) -> httpx.Response | None:
        if not left:
            return None
        wait, name = left[0]
        if wait > 0:
            left[0] = (wait - 1, name)
            return None
        left.pop()
        if queue:
            left.append(queue.pop(0))
        return FAULTS[name](request)

    return fault

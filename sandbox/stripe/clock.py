"""Where the stand-in's time comes from. Whole seconds since 1970, UTC, as everywhere at Stripe."""

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int: ...

    def move_to(self, moment: int) -> None:
        """Let `now()` answer `moment` from here on (and run on from there, if it runs)."""
        ...


class RunningClock:
    """Real time, shifted: after a move it runs on at its usual pace."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> int:
        return int(time.time() + self.offset)

    def move_to(self, moment: int) -> None:
        # Half a second ahead, so that `now()` does not fall back below `moment` by rounding.
        self.offset = moment + 0.5 - time.time()


class ManualClock:
    """Stands still until moved: for tests and for histories that must replay exactly."""

    def __init__(self, start: int = 1_767_225_600) -> None:  # 2026-01-01T00:00:00Z
        self.moment = start

    def now(self) -> int:
        return self.moment

    def move_to(self, moment: int) -> None:
        self.moment = moment

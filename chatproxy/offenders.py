"""Who keeps running into a plan's limits: worth a look, as a bug, a leak or a customer to call.

Counted where the ledger counts, so the hot path pays nothing. Users are named in the log and never
in a metric's labels, of which there would be as many as users.
"""

import logging
import time
from collections import Counter

logger = logging.getLogger(__name__)

# Limits of a plan over time. A budget that is used up is no sign of anything unusual.
LIMIT_CODES = frozenset({"rate_limit_requests", "rate_limit_tokens", "too_many_streams"})
WINDOW_MINUTES = 5
# Refusals within the window that make an offender. Clients that heed Retry-After stay far below.
REFUSALS = 30
# More users than this within one minute are not told apart: that is no longer about single ones.
MOST_USERS = 10_000


class Offenders:
    """Refusals by user in the minutes of the window. For one thread."""

    def __init__(self) -> None:
        self._minutes: dict[int, Counter[int]] = {}
        self._named: set[int] = set()

    def note(self, user_id: int, code: str, *, now: float | None = None) -> None:
        """A request was refused with ``code``."""
        if code not in LIMIT_CODES:
            return
        minute = self._minute(now)
        refusals = self._minutes.setdefault(minute, Counter())
        if user_id not in refusals and len(refusals) >= MOST_USERS:
            return
        refusals[user_id] += 1
        total = sum(counted[user_id] for counted in self._minutes.values())
        if total >= REFUSALS and user_id not in self._named:
            self._named.add(user_id)
            logger.warning(
                "A user keeps exceeding limits",
                extra={"user_id": user_id, "code": code, "refusals": total},
            )

    def count(self, *, now: float | None = None) -> int:
        """How many there are at this moment."""
        self._minute(now)
        if not self._minutes:
            self._named.clear()
            return 0
        total = sum(self._minutes.values(), Counter[int]())
        offenders = {user_id for user_id, refusals in total.items() if refusals >= REFUSALS}
        self._named &= offenders
        return len(offenders)

    def _minute(self, now: float | None) -> int:
        """The present one; those outside the window are forgotten."""
        minute = int((time.monotonic() if now is None else now) // 60)
        for old in [known for known in self._minutes if known <= minute - WINDOW_MINUTES]:
            del self._minutes[old]
        return minute

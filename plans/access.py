"""What each subscription status means for access: the one table that code and documents share.

Stripe may add words (its types admit any string). A word that is not here changes nothing by
itself: the last known status keeps holding, and staff see a problem.
"""

from enum import StrEnum


class Access(StrEnum):
    FULL = "full"  # the plan, with its limits
    GRACE = "grace"  # the plan for its grace days since the first failure, then nothing
    NONE = "none"  # nothing from this subscription; the default plan remains


ACCESS_BY_STATUS: dict[str, Access] = {
    "trialing": Access.FULL,
    "active": Access.FULL,
    "past_due": Access.GRACE,
    "unpaid": Access.NONE,
    "incomplete": Access.NONE,
    "incomplete_expired": Access.NONE,
    "paused": Access.NONE,
    "canceled": Access.NONE,
}

# Nothing follows these: the subscription never comes back under the same id.
TERMINAL_STATUSES = frozenset({"canceled", "incomplete_expired"})

# Its holder manages it in the portal instead of buying a second one. An `incomplete` one is left
# out: its first payment never succeeded, and a new checkout is the way to try again.
LIVE_STATUSES = frozenset({"trialing", "active", "past_due", "unpaid", "paused"})

# Money was due and did not come.
OVERDUE_STATUSES = frozenset({"past_due", "unpaid"})

MEANINGS: dict[str, str] = {
    "trialing": "In its trial period.",
    "active": "Paid and running.",
    "past_due": "The last payment failed; access continues during the grace period.",
    "unpaid": "Payment failed for good; access is withdrawn until it is paid.",
    "incomplete": "The first payment has not succeeded yet.",
    "incomplete_expired": "The first payment never succeeded.",
    "paused": "Paused; nothing is charged and nothing is available.",
    "canceled": "Ended.",
}


def is_known(status: str) -> bool:
    return status in ACCESS_BY_STATUS


def is_live(status: str) -> bool:
    return status in LIVE_STATUSES or not is_known(status)

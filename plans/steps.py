"""What publishing consists of."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do at Stripe or to note here."""

    text: str
    act: Callable[[], None]

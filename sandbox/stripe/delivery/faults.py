"""Switches for how badly events travel."""

import random
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class DeliveryFaults:
    """Probabilities from 0 to 1, times in seconds of real time."""

    duplicate: float = 0.0
    drop: float = 0.0  # never sent, as when an outage is longer than Stripe's retries
    delay: tuple[float, float] = (0.0, 0.0)
    reorder: bool = False
    paused: bool = False
    reorder_window: float = 1.0  # with `reorder`, each event waits a random part of this
    seed: int | None = None
    _random: random.Random = field(default_factory=random.Random, repr=False)

    def update(self, given: Json) -> None:
        known = {"duplicate", "drop", "delay", "reorder", "paused", "reorder_window", "seed"}
        for name, value in given.items():
            if name not in known:
                raise ValueError(f"no such switch: {name}")
            setattr(self, name, tuple(value) if name == "delay" else value)
        if "seed" in given:
            self._random.seed(self.seed)

    def as_dict(self) -> Json:
        return {
            "duplicate": self.duplicate,
            "drop": self.drop,
            "delay": list(self.delay),
            "reorder": self.reorder,
            "paused": self.paused,
            "reorder_window": self.reorder_window,
            "seed": self.seed,
        }

    def dropped(self) -> bool:
        return self.drop > 0 and self._random.random() < self.drop

    def copies(self) -> int:
        return 2 if self.duplicate > 0 and self._random.random() < self.duplicate else 1

    def wait(self) -> float:
        """Seconds before the first attempt."""
        low, high = self.delay
        waiting = self._random.uniform(low, high) if high > 0 else 0.0
        if self.reorder:
            waiting += self._random.uniform(0, self.reorder_window)
        return waiting

    def shuffle(self, items: list[Any]) -> None:
        if self.reorder:
            self._random.shuffle(items)

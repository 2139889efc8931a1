"""What a bench says: one figure, and how it compares with a baseline of the same run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    value: float
    unit: str
    baseline: float | None = None
    # value / baseline
    ratio: float | None = None


def compared(name: str, value: float, unit: str, baseline: float) -> Result:
    return Result(name, round(value, 4), unit, round(baseline, 4), round(value / baseline, 3))

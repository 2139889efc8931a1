"""What an operator of a real account sets in Stripe's dashboard, and how fast time-outs run."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

ENDIVE = "2026-10-28.endive"
ACACIA = "2025-02-24.acacia"


@dataclass
class Behaviour:
    # Shape of events for endpoints without a version of their own, and of answers to callers
    # that send no Stripe-Version header.
    api_version: str = ENDIVE
    # Stripe leaves a renewal invoice in draft for about an hour before it charges.
    draft_seconds: int = 3600
    # Days after the first failure at which payment is tried again. Stripe's own retries were
    # measured at nine attempts over fourteen days.
    retry_days: tuple[float, ...] = (1, 3, 5, 7, 9, 11, 13, 14)
    # What becomes of the subscription when the last retry fails.
    dunning_end: Literal["cancel", "unpaid", "past_due"] = "cancel"
    upcoming_days: int = 7
    trial_notice_days: int = 3
    incomplete_hours: float = 23
    session_hours: float = 24
    # Bank debits: how long until the bank answers, and what the subscription says meanwhile.
    # Stripe shows `active` although nothing is paid yet; only the invoice and the session tell.
    delayed_seconds: int = 3 * 86_400
    delayed_status: Literal["active", "incomplete"] = "active"
    fee_percent: float = 2.9
    fee_fixed: int = 30

    def update(self, changes: dict[str, Any]) -> None:
        known = {field.name for field in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no such setting: {name}")
            current = getattr(self, name)
            setattr(self, name, tuple(value) if isinstance(current, tuple) else value)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

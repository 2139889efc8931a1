"""Why something changed: carried from the trigger to the audit trail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a change happen.

    ``kind`` is one of ``stripe`` (``reference``: event id), ``staff`` and ``user`` (``actor_id``:
    the person), ``clock`` (planned work whose time had come), ``system`` (reconciliation,
    commands).
    """

    kind: str
    reference: str = ""
    actor_id: int | None = None

    @classmethod
    def stripe(cls, event_id: str) -> "Cause":
        return cls("stripe", event_id)

    @classmethod
    def staff(cls, actor_id: int, reference: str = "") -> "Cause":
        return cls("staff", reference, actor_id)

    @classmethod
    def user(cls, actor_id: int, reference: str = "") -> "Cause":
        return cls("user", reference, actor_id)

    @classmethod
    def clock(cls, reference: str) -> "Cause":
        return cls("clock", reference)

    @classmethod
    def system(cls, reference: str) -> "Cause":
        return cls("system", reference)

    def __str__(self) -> str:
        return f"{self.kind}:{self.reference}" if self.reference else self.kind

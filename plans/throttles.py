"""Lower a user's limits to a share for a while, and give them back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import User
from plans.entitlements import refresh_entitlements
from plans.models import Throttle
from tesslate.lib.cause import Cause

Answer = Throttle.Answer


@transaction.atomic
def throttle(
    *,
    user_id: int,
    percent: int,
    reason: str,
    ends_at: datetime,
    cause: Cause,
    evidence: Mapping[str, Any] | None = None,
) -> Throttle | None:
    """Lower the user's limits to ``percent`` of the plan's until ``ends_at``.

    None when they are lowered already: that throttle stays as it is.
    """
    user = User.objects.select_for_update().get(pk=user_id)
    _lift(Throttle.objects.filter(user=user, ends_at__lte=timezone.now()), cause)
    if user.deleted_at is not None or Throttle.objects.filter(user=user, lifted_at=None).exists():
        return None
    row = Throttle.objects.create(
        user=user, percent=percent, reason=reason, evidence=dict(evidence or {}), ends_at=ends_at
    )
    record_act(
        action="user.throttled",
        cause=cause,
        target=row,
        user=user,
        reason=reason,
        after={"percent": percent, "ends_at": ends_at.isoformat(), "evidence": row.evidence},
    )
    refresh_entitlements([user.pk], cause=cause)
    return row


@transaction.atomic
def lift(*, throttle: Throttle, cause: Cause, reason: str = "") -> bool:
    """Give the user the plan's limits back. False when they had them already."""
    return _lift(Throttle.objects.filter(pk=throttle.pk), cause, reason) > 0


@transaction.atomic
def answer(*, throttle: Throttle, answer: Throttle.Answer, cause: Cause) -> bool:
    """Keep what the user says about it; ``mine`` lifts it. False when it is answered already."""
    row = Throttle.objects.select_for_update(of=["self"]).get(pk=throttle.pk)
    if row.answer:
        return False
    row.answer, row.answered_at = answer, timezone.now()
    row.save(update_fields=["answer", "answered_at"])
    record_act(action=f"throttle.{answer}", cause=cause, target=row, user=row.user)
    if answer == Answer.MINE:
        _lift(Throttle.objects.filter(pk=row.pk), cause, "The user says that it was them.")
    return True


def _lift(rows: Any, cause: Cause, reason: str = "") -> int:
    """In the caller's transaction; how many."""
    lifted = list(rows.filter(lifted_at=None).select_for_update(of=["self"]))
    for row in lifted:
        row.lifted_at = timezone.now()
        row.lifted_by_id = cause.actor_id
        row.save(update_fields=["lifted_at", "lifted_by"])
        record_act(action="throttle.lifted", cause=cause, target=row, user=row.user, reason=reason)
    refresh_entitlements([row.user_id for row in lifted], cause=cause)
    return len(lifted)

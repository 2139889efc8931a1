"""Say that the gateway may be behind. Everything here runs in the caller's transaction and only
writes rows; the wake-up goes out on commit, and losing it costs nothing but time."""

import logging
from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from kombu.exceptions import OperationalError

from llmkeys.models import PlanAtGateway, VirtualKey
from tesslate.lib.cause import Cause
from tesslate.lib.sql import fetch

logger = logging.getLogger(__name__)

# More keys than this are left to the bulk queue, where they do not stand in a buyer's way.
MANY = 200


def behind(cause: Cause, *, now: datetime | None = None) -> dict[str, Any]:
    """The column changes that put a reconciled row behind. Any change gives a parked row, and one
    that waits after failures, a fresh start."""
    now = now or timezone.now()
    return {
        "generation": F("generation") + 1,
        "dirty_since": Coalesce(F("dirty_since"), now),
        "next_attempt_at": now,
        "attempts": 0,
        "parked_at": None,
        "cause_kind": cause.kind,
        "cause_reference": cause.reference[:255],
        "cause_actor_id": cause.actor_id,
    }


def mark_keys(keys: QuerySet[VirtualKey], *, cause: Cause, **changes: Any) -> list[int]:
    """Put the keys behind, with further column changes, and wake a worker; their ids."""
    ids = list(keys.order_by("pk").values_list("pk", flat=True))
    if ids:
        VirtualKey.objects.filter(pk__in=ids).update(**behind(cause), **changes)
        wake(ids)
    return ids


# What ``behind`` says, fixed: every change of what somebody has passes through it. Locked in one
# order, so that no two who mark the same keys wait for each other.
_MARK_USERS = """
    UPDATE llmkeys_virtualkey SET
        generation = generation + 1,
        dirty_since = COALESCE(dirty_since, %(now)s),
        next_attempt_at = %(now)s,
        attempts = 0,
        parked_at = NULL,
        cause_kind = %(kind)s,
        cause_reference = %(reference)s,
        cause_actor_id = %(actor)s
    WHERE id IN (
        SELECT id FROM llmkeys_virtualkey
        WHERE user_id = ANY(%(users)s) AND removed_at IS NULL ORDER BY id FOR UPDATE
    )
    RETURNING id, user_id, lifecycle
"""


def mark_users(user_ids: Collection[int], *, cause: Cause) -> set[int]:
    """Put every key of these users behind that the gateway may still know, and wake a worker.

    Gives the ids of those users who hold a key that is not retired.
    """
    marked = fetch(
        _MARK_USERS,
        {
            "now": timezone.now(),
            "kind": cause.kind,
            "reference": cause.reference[:255],
            "actor": cause.actor_id,
            "users": list(user_ids),
        },
    )
    if marked:
        wake(sorted(pk for pk, _, _ in marked))
    retired = VirtualKey.Lifecycle.RETIRED
    return {user_id for _, user_id, lifecycle in marked if lifecycle != retired}


def mark_plans(plan_ids: Collection[int], *, cause: Cause) -> None:
    """Put what these plans' keys share behind."""
    ids = list(
        PlanAtGateway.objects.filter(plan_id__in=plan_ids)
        .order_by("pk")
        .values_list("pk", flat=True)
    )
    PlanAtGateway.objects.filter(pk__in=ids).update(**behind(cause))
    after_commit("sync_plans", ids)


def mark_everything(*, cause: Cause) -> None:
    """Put every key that the gateway may know behind, and all that plans share, to be read back."""
    VirtualKey.objects.filter(removed_at=None).update(**behind(cause), in_doubt=True)
    # Whether it holds what plans share is unknown, and keys cannot be made without that.
    PlanAtGateway.objects.update(**behind(cause), in_doubt=True, observed=None)
    after_commit("drain")


def wake(key_ids: list[int]) -> None:
    """Have a worker look at these keys as soon as the transaction commits."""
    if len(key_ids) <= MANY:
        after_commit("sync_keys", key_ids)
    else:
        after_commit("drain")


def after_commit(task: str, *args: Any) -> None:
    """Publish a wake-up once the transaction commits; whatever it raises then is only logged."""

    # A function and no partial: to log a failure Django asks for its name.
    def publish() -> None:
        send(task, *args)

    transaction.on_commit(publish, robust=True)


def send(task: str, *args: Any) -> None:
    """Publish a wake-up. A broker that is down is no reason to fail: the sweep finds the work."""
    from llmkeys import tasks

    try:
        getattr(tasks, task).delay(*args)
    except (OperationalError, OSError) as error:
        logger.warning("Wake-up not sent (%s); the sweep will find the work", type(error).__name__)

"""Who works on a row: one worker at a time, and for a limited time."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from llmkeys.models import Reconciled
from llmkeys.models.reconciled import BEHIND

# Several calls at their time limit fit in; a worker stops sending well before the end.
LEASE = timedelta(seconds=90)
LONGEST_WAIT = timedelta(minutes=5)

Row = TypeVar("Row", bound=Reconciled)


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that are ours until ``until``, and which of them are in doubt.

    A claim itself puts its rows in doubt: should this worker die, its calls may have had an
    effect. ``in_doubt`` is how they were before.
    """

    token: str
    until: datetime
    ids: list[int]
    in_doubt: frozenset[int]


def claim(rows: QuerySet[Row], *, limit: int, ids: Collection[int] | None = None) -> Claim:
    """Claim rows that are behind, due and free, those that wait longest first."""
    now = timezone.now()
    # A clock that was set back must not leave rows waiting for a moment far ahead: no lease and no
    # wait is ever longer than these.
    free = Q(lease_until=None) | Q(lease_until__lt=now) | Q(lease_until__gt=now + LEASE)
    ripe = Q(next_attempt_at__lte=now) | Q(next_attempt_at__gt=now + LONGEST_WAIT)
    due = rows.filter(BEHIND, free, ripe)
    if ids is not None:
        due = due.filter(pk__in=ids)
    token, until = secrets.token_hex(16), now + LEASE
    with transaction.atomic():
        picked = list(
            due.order_by("next_attempt_at", "pk")
            .select_for_update(skip_locked=True, of=("self",), no_key=True)
            .values_list("pk", "in_doubt")[:limit]
        )
        found = [pk for pk, _ in picked]
        if found:
            rows.model._default_manager.filter(pk__in=found).update(
                lease_token=token, lease_until=until, in_doubt=True, attempts=F("attempts") + 1
            )
    return Claim(token, until, found, frozenset(pk for pk, doubt in picked if doubt))


def release(rows: QuerySet[Row], claim: Claim, ids: Collection[int]) -> None:
    """Give rows back untouched: nothing was sent for them.

    They stay in doubt. Somebody may have asked meanwhile to have them read back, and one read too
    many is cheaper than one too few.
    """
    rows.model._default_manager.filter(pk__in=ids, lease_token=claim.token).update(
        lease_token="", lease_until=None, attempts=F("attempts") - 1
    )

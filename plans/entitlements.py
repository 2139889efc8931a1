"""What a user may have: gather the facts, decide, and keep the answer where keys follow it.

entitlement_for(user, at)      the answer at a moment, from rows alone
refresh_entitlements(ids, …)   write it down; tell those above when it changed
refresh_due(…)                 the same for everyone whose answer changes by itself now
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.models import Membership, User
from plans.allowances import allowances
from plans.decision import Entitlement, Reason, decide
from plans.facts import default_plan, facts_for
from plans.models import CurrentEntitlement, Customer
from plans.signals import entitlements_changed
from plans.windows import month_window
from tesslate.lib.cause import Cause

__all__ = ["Entitlement", "Reason", "decide", "entitlement_for", "refresh_entitlements"]

# What a key is made from: a change in any of these raises the version.
DECIDING = (
    "plan_id",
    "source",
    "source_id",
    "limit_percent",
    "overage_cents",
    "period_start",
    "period_end",
    "grace_ends_at",
)
DESCRIBING = ("changes_at", "reasons")
BATCH = 500

_LOCK = """
    SELECT * FROM plans_currententitlement WHERE user_id = ANY(%s) ORDER BY user_id FOR UPDATE
"""


def entitlement_for(user: User, at: datetime) -> Entitlement:
    """What ``user`` is entitled to at ``at``, as our rows tell it. Writes nothing."""
    return decide(facts_for([user.pk])[user.pk], at)


def refresh_entitlements(
    user_ids: Iterable[int], *, at: datetime | None = None, cause: Cause
) -> list[int]:
    """Decide anew for these users; returns the ids of those whose entitlement changed.

    Runs in the caller's transaction (or its own). Rows are locked in the order of user ids and
    facts are read after the lock, so of two concurrent changes the later one sees both.
    entitlements_changed is sent inside the transaction, for the changed users only.
    """
    at = at or timezone.now()
    ids = sorted(set(user_ids))
    changed: list[int] = []
    with transaction.atomic(savepoint=False):
        for first in range(0, len(ids), BATCH):
            changed += _refresh_batch(ids[first : first + BATCH], at)
        if changed:
            entitlements_changed.send(sender=CurrentEntitlement, user_ids=changed, cause=cause)
    return changed


def refresh_due(*, at: datetime | None = None, limit: int = BATCH) -> int:
    """Refresh users whose answer changes by itself at ``at``; returns how many were looked at.

    Rows that another worker has locked are left to it.
    """
    at = at or timezone.now()
    with transaction.atomic():
        due = list(
            CurrentEntitlement.objects.select_for_update(skip_locked=True)
            .filter(changes_at__lte=at)
            .order_by("changes_at")
            .values_list("user_id", flat=True)[:limit]
        )
        refresh_entitlements(due, at=at, cause=Cause.clock("entitlement"))
    return len(due)


def users_of(customer: Customer) -> list[int]:
    """Everyone whose entitlement follows from this customer's subscriptions."""
    if customer.user_id is not None:
        return [customer.user_id]
    assert customer.organization_id is not None
    return list(
        Membership.objects.filter(organization_id=customer.organization_id).values_list(
            "user_id", flat=True
        )
    )


def _refresh_batch(ids: Sequence[int], at: datetime) -> list[int]:
    rows = _locked_rows(ids)
    if len(rows) < len(ids):
        _make_missing_rows(set(ids) - {row.user_id for row in rows}, at)
        rows = _locked_rows(ids)
    facts = facts_for([row.user_id for row in rows])
    changed: list[int] = []
    described: list[CurrentEntitlement] = []
    decided = {row.user_id: decide(facts[row.user_id], at) for row in rows}
    beyond = allowances(decided)
    for row in rows:
        columns = _columns(decided[row.user_id], beyond.get(row.user_id, 0))
        if _write_into(row, columns, DECIDING):
            row.version += 1
            row.decided_at = at
            changed.append(row.user_id)
        if _write_into(row, columns, DESCRIBING) or row.user_id in changed[-1:]:
            described.append(row)
    written = [*DECIDING, *DESCRIBING, "version", "decided_at"]
    if len(described) == 1:
        described[0].save(update_fields=written)
    else:
        CurrentEntitlement.objects.bulk_update(described, written, batch_size=BATCH)
    return changed


def _locked_rows(ids: Sequence[int]) -> list[CurrentEntitlement]:
    return list(CurrentEntitlement.objects.raw(_LOCK, [list(ids)]))


def _make_missing_rows(missing: set[int], at: datetime) -> None:
    """Placeholders at version 0, so that there is a row to lock; decided right after."""
    default = default_plan()
    users = User.objects.filter(pk__in=missing).values_list("pk", "date_joined")
    placeholders = []
    for user_id, joined_at in users.order_by("pk"):
        window = month_window(joined_at, at)
        placeholders.append(
            CurrentEntitlement(
                user_id=user_id,
                plan=default,
                source="",
                period_start=window.start,
                period_end=window.end,
                version=0,
                decided_at=at,
            )
        )
    CurrentEntitlement.objects.bulk_create(placeholders, ignore_conflicts=True)


def _columns(entitlement: Entitlement, overage_cents: int) -> dict[str, Any]:
    return {
        "plan_id": entitlement.plan.pk,
        "source": str(entitlement.source),
        "source_id": entitlement.source_id,
        "limit_percent": entitlement.limit_percent,
        "overage_cents": overage_cents,
        "period_start": entitlement.period_start,
        "period_end": entitlement.period_end,
        "grace_ends_at": entitlement.grace_ends_at,
        "changes_at": entitlement.changes_at,
        "reasons": [reason.as_data() for reason in entitlement.reasons],
    }


def _write_into(row: CurrentEntitlement, columns: dict[str, Any], names: Sequence[str]) -> bool:
    """Set the named columns; says whether any differed."""
    differing = [name for name in names if getattr(row, name) != columns[name]]
    for name in differing:
        setattr(row, name, columns[name])
    return bool(differing)

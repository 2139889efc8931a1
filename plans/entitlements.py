"""What a user may have: gather the facts, decide, and keep the answer where keys follow it.

entitlement_for(user, at)      the answer at a moment, from rows alone
refresh_entitlements(ids, …)   write it down; tell those above when it changed
refresh_due(…)                 the same for everyone whose answer changes by itself now
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from accounts.models import Membership, User
from plans.access import is_known
from plans.allowances import allowances
from plans.decision import (
    Entitlement,
    Facts,
    GrantFacts,
    Reason,
    Seat,
    SubscriptionFacts,
    ThrottleFacts,
    decide,
)
from plans.models import CurrentEntitlement, Customer, Plan, PlanGrant, Subscription, Throttle
from plans.signals import entitlements_changed
from plans.windows import Window as Period
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
    rows = CurrentEntitlement.objects.select_for_update().filter(user_id__in=ids)
    return list(rows.order_by("user_id"))


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


def default_plan() -> Plan:
    """The plan that everyone has. Seeded; the database allows only one."""
    return Plan.objects.get(is_default=True)


def facts_for(user_ids: Sequence[int]) -> dict[int, Facts]:
    """The rows that decide, for many users in a handful of queries."""
    default = default_plan()
    seats = _seats(user_ids)
    organization_ids = {seat[0] for user_seats in seats.values() for seat in user_seats}
    of_users, of_organizations = _subscriptions(user_ids, organization_ids)
    user_grants, organization_grants = _grants(user_ids, organization_ids)
    throttles = _throttles(user_ids)
    facts: dict[int, Facts] = {}
    for user in User.objects.filter(pk__in=user_ids).only("pk", "date_joined", "deleted_at"):
        subscriptions = [subscription_facts(row) for row in of_users[user.pk]]
        grants = [_grant_facts(row) for row in user_grants[user.pk]]
        for organization_id, seat in seats[user.pk]:
            subscriptions += [
                subscription_facts(row, seat) for row in of_organizations[organization_id]
            ]
            grants += [
                _grant_facts(row, seat.organization) for row in organization_grants[organization_id]
            ]
        facts[user.pk] = Facts(
            default_plan=default,
            joined_at=user.date_joined,
            subscriptions=tuple(subscriptions),
            grants=tuple(grants),
            throttles=tuple(throttles[user.pk]),
            account_closed=user.deleted_at is not None,
        )
    return facts


def subscription_facts(row: Subscription, seat: Seat | None = None) -> SubscriptionFacts:
    """What a mirrored subscription says, with the last good word where the new one is unknown."""
    known = is_known(row.status)
    price = row.price or row.last_good_price
    period = None
    if row.current_period_start and row.current_period_end:
        period = Period(row.current_period_start, row.current_period_end)
    ends_at = row.cancel_at or (row.current_period_end if row.cancel_at_period_end else None)
    return SubscriptionFacts(
        id=row.pk,
        status=row.status if known else row.last_good_status,
        unknown_status="" if known else row.status,
        plan=None if price is None else price.plan,
        price_is_mapped=row.price is not None,
        quantity=row.quantity,
        period=period,
        trial_end=row.trial_end if row.status == "trialing" else None,
        ends_at=ends_at,
        past_due_since=row.past_due_since,
        awaits_payment=row.awaits_payment,
        seat=seat,
    )


def _seats(user_ids: Sequence[int]) -> defaultdict[int, list[tuple[int, Seat]]]:
    """Each user's organizations with the place they take there; closed accounts take none."""
    places: defaultdict[int, list[tuple[int, Seat]]] = defaultdict(list)
    theirs = Membership.objects.filter(user_id__in=user_ids).values("organization_id")
    numbered = (
        Membership.objects.filter(
            organization_id__in=theirs, user__deleted_at=None, user__is_active=True
        )
        .annotate(
            position=Window(
                RowNumber(),
                partition_by=F("organization_id"),
                order_by=[F("joined_at").asc(), F("id").asc()],
            )
        )
        .values_list("user_id", "organization_id", "pk", "organization__name", "position")
        .order_by("organization_id")
    )
    # Chosen here: a condition in the query would hold before the counting, and make everybody who
    # is looked at alone the first.
    wanted = set(user_ids)
    for user_id, organization_id, membership_id, name, position in numbered:
        if user_id in wanted:
            places[user_id].append((organization_id, Seat(membership_id, name, position)))
    return places


def _subscriptions(
    user_ids: Sequence[int], organization_ids: set[int]
) -> tuple[defaultdict[int, list[Subscription]], defaultdict[int, list[Subscription]]]:
    of_users: defaultdict[int, list[Subscription]] = defaultdict(list)
    of_organizations: defaultdict[int, list[Subscription]] = defaultdict(list)
    rows = (
        Subscription.objects.filter(
            Q(customer__user_id__in=user_ids) | Q(customer__organization_id__in=organization_ids)
        )
        .select_related("customer", "price__plan", "last_good_price__plan")
        .defer("snapshot")
        .order_by("pk")
    )
    for row in rows:
        if row.customer.user_id is not None:
            of_users[row.customer.user_id].append(row)
        elif row.customer.organization_id is not None:
            of_organizations[row.customer.organization_id].append(row)
    return of_users, of_organizations


def _grants(
    user_ids: Sequence[int], organization_ids: set[int]
) -> tuple[defaultdict[int, list[PlanGrant]], defaultdict[int, list[PlanGrant]]]:
    of_users: defaultdict[int, list[PlanGrant]] = defaultdict(list)
    of_organizations: defaultdict[int, list[PlanGrant]] = defaultdict(list)
    rows = (
        PlanGrant.objects.filter(revoked_at=None)
        .filter(Q(user_id__in=user_ids) | Q(organization_id__in=organization_ids))
        .select_related("plan")
        .order_by("pk")
    )
    for row in rows:
        if row.user_id is not None:
            of_users[row.user_id].append(row)
        elif row.organization_id is not None:
            of_organizations[row.organization_id].append(row)
    return of_users, of_organizations


def _throttles(user_ids: Sequence[int]) -> defaultdict[int, list[ThrottleFacts]]:
    of_users: defaultdict[int, list[ThrottleFacts]] = defaultdict(list)
    for row in Throttle.objects.filter(user_id__in=user_ids, lifted_at=None):
        of_users[row.user_id].append(ThrottleFacts(row.pk, row.percent, row.ends_at, row.reason))
    return of_users


def _grant_facts(row: PlanGrant, organization: str = "") -> GrantFacts:
    return GrantFacts(
        id=row.pk,
        plan=row.plan,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        reason=row.reason,
        organization=organization,
    )

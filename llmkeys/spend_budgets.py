"""Customers' own budgets: told at 50, 80 and 100 %, and, where they are hard, kept.

Spend is what the gateway asked for less credits, as the import has it: a minute or two behind. A
user's hard budget is a limit of their keys at the gateway from the first cent on, so it holds
like the plan's own. An organization's has many keys: when it is used up, those on its seats are
stopped until the next window, which may let a minute or two of use through.
"""

import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice

from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncHour
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import Membership, Organization, User
from llmkeys import marking, usage_sums
from llmkeys.models import BudgetNotice, SpendBudget, SpendLimit, UsageHour, VirtualKey
from plans.models import CurrentEntitlement, Subscription
from plans.selectors import current_entitlement
from plans.windows import Window, add_months, window_within
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import encrypt
from tesslate.lib.sql import fetch

SHARES = (50, 80, 100)
BATCH = 500
# A window that is over is replaced by its entitlement's refresh, which makes the budget due; until
# then it is looked at now and again.
SOON = timedelta(minutes=1)
Channel = BudgetNotice.Channel

# Fixed: every change of what somebody has passes through it, and hardly anybody has a budget.
_CONCERNS_ANY = """
    SELECT EXISTS (SELECT FROM llmkeys_spendlimit WHERE user_id = ANY(%(users)s))
        OR EXISTS (
            SELECT FROM llmkeys_spendbudget
            WHERE user_id = ANY(%(users)s) OR organization_id IN (
                SELECT organization_id FROM accounts_membership WHERE user_id = ANY(%(users)s)
            )
        )
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What was spent of a budget in the window that runs. US dollars."""

    window: Window
    spent: Decimal
    amount: Decimal

    @property
    def percent(self) -> int:
        """Rounded down; a budget of nothing is used up."""
        return int(100 * self.spent / self.amount) if self.amount else 100


def standing(budget: SpendBudget, *, at: datetime) -> Standing:
    if budget.user is not None:
        entitlement = current_entitlement(budget.user)
        window = Window(entitlement.period_start, entitlement.period_end)
        hours = usage_sums.hours_of_user(budget.user, *window)
    else:
        assert budget.organization is not None
        window = _window_of(budget.organization, at)
        hours = usage_sums.hours_of_organization(budget.organization, *window)
    return Standing(window, usage_sums.total(hours).billed, budget.amount)


def _window_of(organization: Organization, at: datetime) -> Window:
    """The part of the paid period that runs, or the calendar month (UTC) without one."""
    held = Subscription.objects.filter(
        customer__organization=organization,
        current_period_start__lte=at,
        current_period_end__gt=at,
    ).first()
    if held is not None and held.current_period_start and held.current_period_end:
        return window_within(Window(held.current_period_start, held.current_period_end), at)
    first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Window(first, add_months(first, 1))


@transaction.atomic
def set_budget(
    *,
    amount: Decimal,
    is_hard: bool,
    webhook_url: str,
    cause: Cause,
    user: User | None = None,
    organization: Organization | None = None,
) -> tuple[SpendBudget, str]:
    """Set a user's or an organization's budget. Returns it with the webhook's secret, which is new
    when the address is, and otherwise empty."""
    row, made = SpendBudget.objects.get_or_create(
        user=user, organization=organization, defaults={"amount": amount}
    )
    before = None if made else _facts(row)
    secret = ""
    if webhook_url and webhook_url != row.webhook_url:
        secret = f"whsec_{secrets.token_urlsafe(32)}"
        row.webhook_secret = encrypt(secret)
    row.amount, row.is_hard, row.webhook_url = amount, is_hard, webhook_url
    row.save()
    record_act(
        action="budget.set",
        cause=cause,
        target=row,
        user=user,
        organization=organization,
        before=before,
        after=_facts(row),
    )
    _look_at([row], timezone.now(), seats=True)
    return row, secret


@transaction.atomic
def remove_budget(*, budget: SpendBudget, cause: Cause) -> None:
    record_act(
        action="budget.removed",
        cause=cause,
        user=budget.user,
        organization=budget.organization,
        before=_facts(budget),
    )
    concerned = {budget.user_id} if budget.user_id is not None else _members(budget)
    budget.delete()
    settle_limits(concerned)


def remove_budgets_of(user_ids: Collection[int], *, cause: Cause) -> None:
    """Those that users of closed accounts set themselves, with the addresses that they gave."""
    for budget in SpendBudget.objects.filter(user_id__in=user_ids).select_related("user"):
        remove_budget(budget=budget, cause=cause)


def _facts(row: SpendBudget) -> dict[str, object]:
    return {"amount": str(row.amount), "hard": row.is_hard}


# Looking at them


def evaluate(*, at: datetime | None = None) -> int:
    """Look at the budgets that are due: resolve to tell what has to be told, and bring limits into
    step. How many were looked at. Safe to repeat, and to do twice at once."""
    now = at or timezone.now()
    looked_at = 0
    while ids := _take(SpendBudget.objects.filter(due_at__lte=now).order_by("due_at"), now):
        looked_at += len(ids)
    return looked_at


def evaluate_all(*, at: datetime | None = None) -> int:
    """Look at every budget and every limit, due or not: the net under ``evaluate``."""
    now = at or timezone.now()
    looked_at = last = 0
    while ids := _take(SpendBudget.objects.filter(pk__gt=last).order_by("pk"), now, seats=True):
        looked_at, last = looked_at + len(ids), max(ids)
    held = SpendLimit.objects.order_by("pk").values_list("pk", flat=True)
    for some in _batches(held.iterator(chunk_size=BATCH)):
        settle_limits(some)
    return looked_at


def note_use(user_ids: Collection[int], organization_ids: Collection[int]) -> None:
    """Usage of theirs was written, in this transaction."""
    concerned = Q(user_id__in=user_ids) | Q(organization_id__in=organization_ids)
    SpendBudget.objects.filter(concerned).update(due_at=timezone.now())


def follow_entitlements(user_ids: Collection[int]) -> None:
    """Their windows or seats changed, in this transaction."""
    if not fetch(_CONCERNS_ANY, {"users": list(user_ids)})[0][0]:
        return
    theirs = Membership.objects.filter(user_id__in=user_ids).values("organization_id")
    concerned = Q(user_id__in=user_ids) | Q(organization_id__in=theirs)
    SpendBudget.objects.filter(concerned).update(due_at=timezone.now())
    settle_limits(user_ids)


@transaction.atomic
def _take(budgets: QuerySet[SpendBudget], now: datetime, *, seats: bool = False) -> list[int]:
    """Look at the first BATCH of these. Those that somebody else has in hand are left to them.

    The rows are locked before usage is read, and whoever writes usage marks them in the same
    transaction: what the reading missed makes them due again.
    """
    rows = list(
        budgets.select_for_update(skip_locked=True, of=("self",)).select_related(
            "user__current_entitlement", "organization"
        )[:BATCH]
    )
    if rows:
        _look_at(rows, now, seats=seats)
    return [row.pk for row in rows]


def _look_at(rows: Sequence[SpendBudget], now: datetime, *, seats: bool) -> None:
    """``seats``: settle an organization's members also where its budget stands as it stood; whoever
    gets or loses a seat is settled when their entitlement changes."""
    standings = _standings(rows, now)
    notices: list[BudgetNotice] = []
    users: set[int] = set()
    written: list[SpendBudget] = []
    for row in rows:
        found = standings[row.pk]
        notices += _notices(row, found, now)
        before = row.used_up_until, row.due_at
        row.used_up_until = found.window.end if found.percent >= 100 else None
        row.due_at = max(found.window.end, now + SOON)
        if before != (row.used_up_until, row.due_at):
            written.append(row)
        if row.user_id is not None:
            users.add(row.user_id)
        elif seats or before[0] != row.used_up_until:
            users |= _members(row)
    BudgetNotice.objects.bulk_create(notices, ignore_conflicts=True)
    # Several times as fast as bulk_update; the rows are there and locked, so none is made.
    SpendBudget.objects.bulk_create(
        written,
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["used_up_until", "due_at"],
    )
    settle_limits(users)


def _standings(rows: Sequence[SpendBudget], now: datetime) -> dict[int, Standing]:
    """Of many budgets: users' in one query, organizations' (whose windows have to be worked out)
    one by one."""
    hours = UsageHour.objects.filter(
        user_id=OuterRef("user_id"),
        hour__gte=OuterRef("first_hour"),
        hour__lt=OuterRef("user__current_entitlement__period_end"),
    ).order_by()
    spent = hours.values("user_id").annotate(sum=Sum("cost") - Sum("credited")).values("sum")
    known = SpendBudget.objects.filter(
        pk__in=[row.pk for row in rows if row.user_id], user__current_entitlement__isnull=False
    )
    known = known.annotate(
        first_hour=TruncHour("user__current_entitlement__period_start", tzinfo=UTC)
    )
    entries = known.annotate(spent=Subquery(spent)).values_list(
        "pk",
        "user__current_entitlement__period_start",
        "user__current_entitlement__period_end",
        "spent",
    )
    amounts = {row.pk: row.amount for row in rows}
    found = {
        pk: Standing(Window(start, end), max(Decimal(0), spent or Decimal(0)), amounts[pk])
        for pk, start, end, spent in entries
    }
    return {row.pk: found.get(row.pk) or standing(row, at=now) for row in rows}


def _notices(budget: SpendBudget, found: Standing, now: datetime) -> list[BudgetNotice]:
    channels = [Channel.EMAIL, *([Channel.WEBHOOK] if budget.webhook_url else [])]
    return [
        BudgetNotice(
            budget=budget,
            window_start=found.window.start,
            percent=share,
            channel=channel,
            spent=found.spent,
            amount=budget.amount,
            created_at=now,
            next_attempt_at=now,
        )
        for share in SHARES
        if found.percent >= share
        for channel in channels
    ]


# Limits


@transaction.atomic
def settle_limits(user_ids: Collection[int]) -> None:
    """Write what hard budgets leave these users, and have the keys of those follow for whom that
    changed."""
    if not user_ids:
        return
    own = SpendBudget.objects.filter(user_id__in=user_ids, is_hard=True)
    wanted: dict[int, Decimal] = dict(own.values_list("user_id", "amount"))
    wanted.update(dict.fromkeys(_stopped(user_ids), Decimal(0)))
    held = dict(
        SpendLimit.objects.select_for_update()
        .filter(user_id__in=user_ids)
        .order_by("pk")
        .values_list("user_id", "limit")
    )
    changed = {pk for pk in {*held, *wanted} if held.get(pk) != wanted.get(pk)}
    if not changed:
        return
    SpendLimit.objects.filter(user_id__in=changed - set(wanted)).delete()
    SpendLimit.objects.bulk_create(
        (SpendLimit(user_id=pk, limit=wanted[pk]) for pk in sorted(changed & set(wanted))),
        update_conflicts=True,
        unique_fields=["user"],
        update_fields=["limit"],
    )
    keys = VirtualKey.live.filter(user_id__in=changed)
    marking.mark_keys(keys, cause=Cause.system("spend budget"))


def _stopped(user_ids: Collection[int]) -> list[int]:
    """Those on a seat of an organization whose hard budget is used up."""
    seats = Membership.objects.filter(
        organization__spend_budget__is_hard=True,
        organization__spend_budget__used_up_until__isnull=False,
    )
    holders = CurrentEntitlement.objects.filter(
        user_id__in=user_ids,
        source=CurrentEntitlement.Source.ORGANIZATION,
        source_id__in=seats.values("pk"),
    )
    return list(holders.values_list("user_id", flat=True))


def _members(budget: SpendBudget) -> set[int]:
    members = Membership.objects.filter(organization__spend_budget=budget)
    return set(members.values_list("user_id", flat=True))


def _batches(ids: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(ids)
    while some := list(islice(rest, BATCH)):
        yield some

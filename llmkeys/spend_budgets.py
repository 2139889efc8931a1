"""Customers' own budgets: told at 50, 80 and 100 %, and, where they are hard, kept.

Spend is what the gateway asked for less credits, as the import has it: a minute or two behind. A
user's hard budget is a limit of their keys at the gateway from the first cent on, so it holds
like the plan's own. An organization's has many keys: when it is used up, those on its seats are
stopped until the next window, which may let a minute or two of use through.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import Membership, Organization, User
from llmkeys import marking, usage_sums
from llmkeys.models import BudgetNotice, SpendBudget, SpendLimit, VirtualKey
from plans.models import CurrentEntitlement, Subscription
from plans.selectors import current_entitlement
from plans.windows import Window, add_months, window_within
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import encrypt

SHARES = (50, 80, 100)
Channel = BudgetNotice.Channel


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
    evaluate()
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
    budget.delete()
    evaluate()


def _facts(row: SpendBudget) -> dict[str, object]:
    return {"amount": str(row.amount), "hard": row.is_hard}


@transaction.atomic
def evaluate(*, at: datetime | None = None) -> None:
    """Resolve to tell what has to be told, and bring limits into step. Safe to repeat."""
    now = at or timezone.now()
    limits: dict[int, Decimal] = {}
    for budget in SpendBudget.objects.select_related("user", "organization").order_by("pk"):
        found = standing(budget, at=now)
        _note(budget, found, now)
        if budget.is_hard:
            for user_id, limit in _limits(budget, found).items():
                limits[user_id] = min(limit, limits.get(user_id, limit))
    _apply(limits)


def _note(budget: SpendBudget, found: Standing, now: datetime) -> None:
    channels = [Channel.EMAIL, *([Channel.WEBHOOK] if budget.webhook_url else [])]
    BudgetNotice.objects.bulk_create(
        (
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
        ),
        ignore_conflicts=True,
    )


def _limits(budget: SpendBudget, found: Standing) -> dict[int, Decimal]:
    if budget.user_id is not None:
        return {budget.user_id: budget.amount}
    if found.percent < 100:
        return {}
    assert budget.organization_id is not None
    seats = Membership.objects.filter(organization_id=budget.organization_id).values("pk")
    holders = CurrentEntitlement.objects.filter(
        source=CurrentEntitlement.Source.ORGANIZATION, source_id__in=seats
    )
    return dict.fromkeys(holders.values_list("user_id", flat=True), Decimal(0))


def _apply(wanted: dict[int, Decimal]) -> None:
    """Write the limits that changed and have the keys concerned follow."""
    held = dict(SpendLimit.objects.select_for_update().values_list("user_id", "limit"))
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

"""What the account page shows, read from each app's rows."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Sum

from accounts.models import ApiToken, BrowserSession, Membership, User
from accounts.sessions import sessions_of
from accounts.tokens import live_tokens
from chatproxy.models import ChatRequest
from llmkeys.models import VirtualKey
from plans.access import MEANINGS, OVERDUE_STATUSES
from plans.models import CurrentEntitlement, Plan, Subscription
from plans.selectors import current_entitlement, live_subscriptions
from tesslate.site.money import format_money


@dataclass(frozen=True, slots=True)
class Standing:
    """The plan's state in one word and one sentence."""

    tone: str  # good, warn, bad or accent: the colour of its badge
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used since ``since``."""

    since: datetime
    requests: int
    tokens: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class AccountPage:
    entitlement: CurrentEntitlement
    subscription: Subscription | None
    standing: Standing
    spent: Spent
    budget: Decimal
    keys: list[VirtualKey]
    memberships: list[Membership]
    tokens: list[ApiToken]
    sessions: list[BrowserSession]

    @property
    def plan(self) -> Plan:
        return self.entitlement.plan

    @property
    def price(self) -> str:
        if self.subscription is None or self.subscription.price is None:
            return ""
        price = self.subscription.price
        return f"{format_money(price.unit_amount, price.currency)} a {price.interval}"

    @property
    def reasons(self) -> list[dict[str, Any]]:
        return list(self.entitlement.reasons)

    @property
    def budget_percent(self) -> int:
        return min(100, round(100 * self.spent.cost / self.budget)) if self.budget else 100


def account_page(user: User) -> AccountPage:
    entitlement = current_entitlement(user)
    subscription = own_subscription(user)
    return AccountPage(
        entitlement=entitlement,
        subscription=subscription,
        standing=standing(entitlement, subscription),
        spent=spent_since(user, entitlement.period_start),
        budget=budget(entitlement),
        keys=list(VirtualKey.live.filter(user=user).order_by("-created_at")),
        memberships=list(
            Membership.objects.filter(user=user).select_related("organization").order_by("pk")
        ),
        tokens=list(live_tokens(user)),
        sessions=sessions_of(user),
    )


def own_subscription(user: User) -> Subscription | None:
    """The live subscription that the user pays for, the highest plan's if there are several."""
    customer = getattr(user, "customer", None)
    return None if customer is None else live_subscriptions(customer).first()


def spent_since(user: User, since: datetime) -> Spent:
    total = ChatRequest.objects.filter(user=user, started_at__gte=since).aggregate(
        requests=Count("pk"),
        prompt=Sum("prompt_tokens"),
        completion=Sum("completion_tokens"),
        cost=Sum("cost"),
    )
    return Spent(
        since=since,
        requests=total["requests"],
        tokens=(total["prompt"] or 0) + (total["completion"] or 0),
        cost=total["cost"] or Decimal(0),
    )


def budget(entitlement: CurrentEntitlement) -> Decimal:
    """US dollars in the present period, grace throttling included."""
    return Decimal(entitlement.plan.budget_cents) * entitlement.limit_percent / 10_000


def standing(entitlement: CurrentEntitlement, subscription: Subscription | None) -> Standing:
    """Grace before an end in sight, an end in sight before everything being well."""
    source = entitlement.source
    if entitlement.grace_ends_at is not None:
        return Standing(
            "warn",
            "Payment overdue",
            f"The last payment failed. You keep {entitlement.plan.name} until "
            f"{_day(entitlement.grace_ends_at)}; update your card to keep it for longer.",
        )
    if subscription is not None and subscription.status in OVERDUE_STATUSES:
        return Standing("bad", "Payment overdue", MEANINGS[subscription.status])
    if source == CurrentEntitlement.Source.SUBSCRIPTION and subscription is not None:
        return _paid_standing(entitlement, subscription)
    if source == CurrentEntitlement.Source.GRANT:
        end = f" until {_day(entitlement.changes_at)}" if entitlement.changes_at else ""
        return Standing("good", "Given by us", f"You have this plan{end}, free of charge.")
    if source == CurrentEntitlement.Source.ORGANIZATION:
        return Standing("good", "Through your organization", "Your organization pays for it.")
    return Standing(
        "accent",
        "Free",
        f"Included with every account. Usage starts anew on {_day(entitlement.period_end)}.",
    )


def _paid_standing(entitlement: CurrentEntitlement, subscription: Subscription) -> Standing:
    end = subscription.cancel_at or (
        subscription.current_period_end if subscription.cancel_at_period_end else None
    )
    if end is not None:
        return Standing(
            "warn",
            "Ends soon",
            f"Canceled. You keep {entitlement.plan.name} until {_day(end)}, then the free plan.",
        )
    if subscription.status == "trialing" and subscription.trial_end is not None:
        return Standing("good", "Trial", f"Free until {_day(subscription.trial_end)}.")
    renewal = subscription.current_period_end or entitlement.period_end
    return Standing("good", "Active", f"Renews on {_day(renewal)}.")


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"

"""What the account page shows, read from each app's rows."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils import timezone

from accounts.models import ApiToken, BrowserSession, Membership, User
from accounts.selectors import memberships_of
from accounts.sessions import sessions_of
from accounts.tokens import live_tokens
from chatproxy.selectors import Totals, usage_by, usage_in_period
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, Customer, GatewayModel, Plan, Subscription
from plans.overage import cap_in_force, offers_overage
from plans.overview import Billing, billing_of
from plans.selectors import current_entitlement, live_subscriptions
from tesslate.site.money import format_money
from tesslate.site.standing import Standing, pending_text, standing


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """One model's part in the period's usage."""

    title: str
    totals: Totals
    # Of the whole period's cost.
    percent: int


@dataclass(frozen=True, slots=True)
class AccountPage:
    entitlement: CurrentEntitlement
    subscription: Subscription | None
    # None once the account is closed: then there is nothing to manage.
    billing: Billing | None
    standing: Standing
    spent: Totals
    by_model: list[ModelUsage]
    budget: Decimal
    # US cents a period beyond the plan; None where that cannot be had.
    overage_cap_cents: int | None
    keys: list[VirtualKey]
    memberships: list[Membership]
    tokens: list[ApiToken]
    sessions: list[BrowserSession]

    @property
    def plan(self) -> Plan:
        return self.entitlement.plan

    @property
    def price(self) -> str:
        return "" if self.subscription is None else price_of(self.subscription)

    @property
    def pending(self) -> str:
        shown = None if self.billing is None else self.billing.subscription
        return "" if shown is None else pending_text(shown["pending_change"])

    @property
    def has_invoices(self) -> bool:
        return self.billing is not None and self.billing.can_manage

    @property
    def reasons(self) -> list[dict[str, Any]]:
        return list(self.entitlement.reasons)

    @property
    def budget_percent(self) -> int:
        return percent(self.spent.cost, self.budget)


def account_page(user: User) -> AccountPage:
    # In this order: where a change comes between the two, the younger entitlement decides.
    subscription = own_subscription(user)
    entitlement = current_entitlement(user)
    now = timezone.now()
    spent = usage_in_period(user, entitlement.period_start, now)
    return AccountPage(
        entitlement=entitlement,
        subscription=subscription,
        billing=billing_of(user) if user.deleted_at is None else None,
        standing=standing(user, entitlement, subscription),
        spent=spent,
        by_model=[
            ModelUsage(title, totals, percent(totals.cost, spent.cost))
            for title, totals in _by_model(user, entitlement)
        ],
        budget=budget(entitlement),
        overage_cap_cents=overage_cap_cents(getattr(user, "customer", None)),
        keys=list(VirtualKey.live.filter(user=user).order_by("-created_at")),
        memberships=list(memberships_of(user)),
        tokens=list(live_tokens(user)),
        sessions=sessions_of(user),
    )


def own_subscription(user: User) -> Subscription | None:
    """The live subscription that the user pays for, the highest plan's if there are several."""
    customer = getattr(user, "customer", None)
    return None if customer is None else live_subscriptions(customer).first()


def overage_cap_cents(customer: Customer | None) -> int | None:
    """US cents; None for a payer whose subscription cannot have overage."""
    return cap_in_force(customer) if offers_overage(customer) else None


def price_of(subscription: Subscription) -> str:
    """Like ``$19 a month``, with the seats where there are several."""
    price = subscription.price
    if price is None:
        return ""
    seats = f" × {subscription.quantity} seats" if subscription.quantity > 1 else ""
    return f"{format_money(price.unit_amount, price.currency)} a {price.interval}{seats}"


def _by_model(user: User, entitlement: CurrentEntitlement) -> list[tuple[str, Totals]]:
    """What cost most comes first; a model that nobody offers any more keeps its name."""
    rows = usage_by(user, entitlement.period_start, timezone.now(), group="model")
    titles = dict(GatewayModel.objects.values_list("name", "title"))
    used = [(titles.get(name, name), totals) for name, totals in rows if totals.requests]
    return sorted(used, key=lambda row: row[1].cost, reverse=True)


def budget(entitlement: CurrentEntitlement) -> Decimal:
    """US dollars in the present period. Throttling lowers rates, never the budget."""
    return Decimal(entitlement.plan.budget_cents) / 100


def percent(part: Decimal, whole: Decimal) -> int:
    """Of nothing, everything is used up."""
    return min(100, round(100 * part / whole)) if whole else 100

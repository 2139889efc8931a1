"""Where a customer stands with their plan, in one word and one sentence."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from accounts.models import User
from plans.access import MEANINGS, OVERDUE_STATUSES
from plans.models import CurrentEntitlement, Subscription


@dataclass(frozen=True, slots=True)
class Standing:
    """The plan's state in one word and one sentence."""

    tone: str  # good, warn, bad or accent: the colour of its badge
    label: str
    text: str


def standing(
    user: User, entitlement: CurrentEntitlement, subscription: Subscription | None
) -> Standing:
    """Trouble before an end in sight, an end in sight before everything being well."""
    if user.suspended_at is not None:
        return Standing(
            "bad", "Suspended", "Access to models is suspended for this account. Please contact us."
        )
    source = entitlement.source
    if entitlement.grace_ends_at is not None:
        return Standing("warn", "Payment overdue", _grace(entitlement, entitlement.grace_ends_at))
    if subscription is not None and subscription.status in OVERDUE_STATUSES:
        return Standing("bad", "Payment overdue", MEANINGS[subscription.status])
    if source == CurrentEntitlement.Source.SUBSCRIPTION and subscription is not None:
        return _paid(entitlement.plan.name, subscription, entitlement.period_end)
    if source == CurrentEntitlement.Source.GRANT:
        end = f" until {day(entitlement.changes_at)}" if entitlement.changes_at else ""
        return Standing("good", "Given by us", f"You have this plan{end}, free of charge.")
    if source == CurrentEntitlement.Source.ORGANIZATION:
        return Standing("good", "Through your organization", "Your organization pays for it.")
    return Standing(
        "accent",
        "Free",
        f"Included with every account. Usage starts anew on {day(entitlement.period_end)}.",
    )


def _grace(entitlement: CurrentEntitlement, ends_at: datetime) -> str:
    limits = (
        f" with {entitlement.limit_percent} % of its limits"
        if entitlement.limit_percent < 100
        else ""
    )
    if entitlement.source == CurrentEntitlement.Source.ORGANIZATION:
        way_out = "an owner of your organization can update the card."
    else:
        way_out = "update your card to keep it for longer."
    return (
        f"The last payment failed. You keep {entitlement.plan.name}{limits} until "
        f"{day(ends_at)}; {way_out}"
    )


def organization_standing(subscription: Subscription | None, at: datetime) -> Standing:
    """The same for what an organization pays for its members."""
    price = None if subscription is None else subscription.price or subscription.last_good_price
    if subscription is None or price is None:
        return Standing("accent", "Nothing bought", "Members use the plans they have themselves.")
    plan = price.plan
    if subscription.status in OVERDUE_STATUSES:
        since = subscription.past_due_since
        ends_at = None if since is None else since + timedelta(days=plan.grace_days)
        if subscription.status != "past_due" or ends_at is None or ends_at <= at:
            return Standing("bad", "Payment overdue", MEANINGS["unpaid"])
        return Standing(
            "warn",
            "Payment overdue",
            f"The last payment failed. Members keep {plan.name} until {day(ends_at)}; update the "
            "card to keep it for longer.",
        )
    if subscription.status == "paused":
        return Standing("warn", "Paused", MEANINGS["paused"])
    return _paid(plan.name, subscription, subscription.current_period_end)


def _paid(plan_name: str, subscription: Subscription, renewal: datetime | None) -> Standing:
    end = subscription.cancel_at or (
        subscription.current_period_end if subscription.cancel_at_period_end else None
    )
    if end is not None:
        return Standing(
            "warn",
            "Ends soon",
            f"Canceled. {plan_name} stays until {day(end)}, then the free plan.",
        )
    if subscription.status == "trialing" and subscription.trial_end is not None:
        return Standing("good", "Trial", f"Free until {day(subscription.trial_end)}.")
    renewal = subscription.current_period_end or renewal
    text = "" if renewal is None else f"Renews on {day(renewal)}."
    return Standing("good", "Active", text)


def pending_text(change: dict[str, Any] | None) -> str:
    """A change that is agreed but not in force, as ``plans.overview`` describes it."""
    if not change or change["plan"] is None:
        return ""
    if change["at"] is None:
        return f"Changes to {change['plan'].name} once the payment has arrived."
    return f"Changes to {change['plan'].name} on {day(change['at'])}."


def day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"

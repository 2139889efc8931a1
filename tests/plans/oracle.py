"""What everybody should have, told from Stripe's state alone.

Written apart from plans.decision on purpose: it shares no code with what it judges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sandbox.stripe.engine import StripeEngine

DAY = 86_400


@dataclass(frozen=True)
class Terms:
    """A plan as the price list has it."""

    code: str
    rank: int
    grace_days: int
    grace_percent: int


@dataclass(frozen=True)
class Expected:
    """An answer that would be right. The window is none on the default plan."""

    plan: str
    percent: int
    source: str
    window: tuple[int, int] | None
    grace_ends: int | None


def expected_of(
    engine: StripeEngine,
    terms_by_price: Mapping[str, Terms],
    *,
    user_id: int,
    organizations: Mapping[int, Sequence[int]],
) -> set[Expected]:
    """Every answer that is right for the user now; several where two subscriptions are equal.

    ``organizations`` holds each organization's members, those who joined first coming first.
    """
    found: list[tuple[int, int, Expected]] = [
        (0, 100, Expected("free", 100, "default", None, None))
    ]
    for subscription in engine.objects("subscription"):
        seats = sum(item["quantity"] or 0 for item in subscription["items"]["data"][:1])
        owner = _owner(engine, subscription)
        if owner == ("user_id", user_id):
            source = "subscription"
        elif owner[0] == "organization_id" and user_id in organizations.get(owner[1], [])[:seats]:
            source = "organization"
        else:
            continue
        answer = _given_by(engine, subscription, terms_by_price, source)
        if answer is not None:
            found.append(answer)
    best = max((rank, percent) for rank, percent, _ in found)
    return {answer for rank, percent, answer in found if (rank, percent) == best}


def _owner(engine: StripeEngine, subscription: dict[str, Any]) -> tuple[str, int]:
    for holder in (engine.object(subscription["customer"]), subscription):
        for name in ("user_id", "organization_id"):
            value = (holder.get("metadata") or {}).get(name)
            if value:
                return name, int(value)
    return "nobody", 0


def _given_by(
    engine: StripeEngine,
    subscription: dict[str, Any],
    terms_by_price: Mapping[str, Terms],
    source: str,
) -> tuple[int, int, Expected] | None:
    now = engine.now()
    item = subscription["items"]["data"][0]
    terms = terms_by_price[item["price"]["id"]]
    invoices = [
        invoice
        for invoice in engine.objects("invoice")
        if _subscription_of(invoice) == subscription["id"]
    ]
    window = _window(item, now)
    if _nothing_came_yet(invoices):
        return None  # the very first money is still on its way
    if subscription["status"] in ("trialing", "active"):
        return terms.rank, 100, Expected(terms.code, 100, source, window, None)
    if subscription["status"] == "past_due":
        since = _missing_since(invoices) or subscription["start_date"]
        grace_ends = since + terms.grace_days * DAY
        if now >= grace_ends:
            return None
        percent = terms.grace_percent
        return terms.rank, percent, Expected(terms.code, percent, source, window, grace_ends)
    return None


def _nothing_came_yet(invoices: list[dict[str, Any]]) -> bool:
    first_is_open = bool(invoices) and (
        invoices[0]["billing_reason"] == "subscription_create"
        and invoices[0]["status"] == "open"
        and invoices[0]["amount_due"] > 0
    )
    return first_is_open and not any(map(_brought_money, invoices))


def _brought_money(invoice: dict[str, Any]) -> bool:
    paid: bool = invoice["status"] == "paid" and invoice["amount_due"] > 0
    return paid


def _subscription_of(invoice: dict[str, Any]) -> str | None:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    found: str | None = details.get("subscription")
    return found


def _missing_since(invoices: list[dict[str, Any]]) -> int:
    """``invoices`` oldest first: the first unpaid one after the last that brought money."""
    since = 0
    for invoice in invoices:
        if _brought_money(invoice):
            since = 0
        elif invoice["status"] in ("open", "uncollectible") and not since:
            since = invoice["status_transitions"]["finalized_at"]
    return since


def _window(item: dict[str, Any], now: int) -> tuple[int, int]:
    """The period, or the month of a yearly one that holds this moment."""
    start, end = item["current_period_start"], item["current_period_end"]
    if end - start <= 31 * DAY:
        return start, end
    anchor = datetime.fromtimestamp(start, UTC)
    bounds = [start]
    for number in range(1, 13):
        months = anchor.month - 1 + number
        year, month = anchor.year + months // 12, months % 12 + 1
        for day in range(anchor.day, 0, -1):
            try:
                moment = anchor.replace(year=year, month=month, day=day)
            except ValueError:
                continue
            bounds.append(int(moment.timestamp()))
            break
    for low, high in pairwise(bounds):
        if low <= now < high:
            return low, min(high, end)
    return bounds[-2], end

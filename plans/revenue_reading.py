"""From an invoice and what was taken back of it to items of revenue. Pure: dicts in, items out.

The rules:

* Revenue is what a *paid* invoice asks for without tax, discounts taken off, whether it was paid
  by card, by several payments, outside of Stripe or out of the customer's balance. A negative line
  (the unused rest of a plan) is negative revenue.
* A line is earned evenly over the days of its period, in UTC.
* A refund, pending or done, takes its share of net and tax back on its day. One that failed or was
  canceled takes nothing.
* A credit note takes back what it does not refund: the refund is counted as such.
* A dispute takes its amount back while it is open and when it is lost. An inquiry, a prevented and
  a won one take nothing.
* Paying too much gives the customer a balance, not us revenue.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta
from typing import Any

from plans.models import RevenueItem
from plans.payments import HARMLESS, IN_OUR_FAVOUR
from plans.stripe_reading import Json, is_paid, is_proration, moment, object_id, price_id

Kind = RevenueItem.Kind
DAY = timedelta(days=1)
LOST_REFUNDS = frozenset({"failed", "canceled"})
KEPT_DISPUTES = HARMLESS | IN_OUR_FAVOUR


@dataclass(frozen=True, slots=True)
class Item:
    """An item in its currency's smallest unit. ``plan`` is filled in by whoever knows prices."""

    kind: str
    external_id: str
    price: str
    gross: int
    tax: int
    starts_on: date
    ends_on: date
    plan_id: int | None = None

    @property
    def net(self) -> int:
        return self.gross - self.tax


def items_of_invoice(invoice: Json, lines: Iterable[Json]) -> list[Item]:
    """What a paid invoice earns. The items' gross amounts sum to the invoice's total."""
    if not is_paid(invoice):
        return []
    paid_on = _day(_paid_at(invoice))
    items = [_line(line, paid_on) for line in lines]
    rest = _int(invoice, "total") - sum(item.gross for item in items)
    if rest:
        rest_tax = total_tax(invoice) - sum(item.tax for item in items)
        items.append(
            Item(Kind.REST, object_id(invoice), "", rest, rest_tax, paid_on, paid_on + DAY)
        )
    return items


def _line(line: Json, paid_on: date) -> Item:
    amount = _int(line, "amount")
    off = sum(_int(entry, "amount") for entry in _entries(line, "discount_amounts"))
    inside, outside = _taxes(line)
    starts_on, ends_on = _days(line, paid_on)
    return Item(
        kind=Kind.PRORATION if is_proration(line) else Kind.LINE,
        external_id=object_id(line),
        price=price_id(line),
        gross=amount - off + outside,
        tax=inside + outside,
        starts_on=starts_on,
        ends_on=ends_on,
    )


def _taxes(line: Json) -> tuple[int, int]:
    """Tax that the line's amount holds, and tax that comes on top; both shapes of Stripe's."""
    inside = outside = 0
    for entry in _entries(line, "taxes") or _entries(line, "tax_amounts"):
        if entry.get("tax_behavior") == "inclusive" or entry.get("inclusive") is True:
            inside += _int(entry, "amount")
        else:
            outside += _int(entry, "amount")
    return inside, outside


def _days(line: Json, paid_on: date) -> tuple[date, date]:
    period = line.get("period")
    period = period if isinstance(period, Mapping) else {}
    start, end = moment(period.get("start")), moment(period.get("end"))
    if start is None or end is None:
        return paid_on, paid_on + DAY
    starts_on = _day(start)
    return starts_on, max(_day(end), starts_on + DAY)


def total_tax(invoice: Json) -> int:
    entries = _entries(invoice, "total_taxes") or _entries(invoice, "total_tax_amounts")
    return sum(_int(entry, "amount") for entry in entries)


# What was taken back


def refunds(found: Iterable[Json]) -> list[tuple[str, int, date]]:
    """(id, amount, day) of refunds that count."""
    return [
        (object_id(refund), _int(refund, "amount"), _day(moment(refund.get("created"))))
        for refund in found
        if refund.get("status") not in LOST_REFUNDS
    ]


def credit_notes(found: Iterable[Json]) -> list[tuple[str, int, date]]:
    """(id, amount, day) of credit notes, as far as they are no refunds."""
    kept = []
    for note in found:
        if note.get("status") == "void":
            continue
        refunded = sum(_int(entry, "amount_refunded") for entry in _entries(note, "refunds"))
        left = _int(note, "total") - refunded
        if left > 0:
            kept.append((object_id(note), left, _day(moment(note.get("created")))))
    return kept


def disputes(found: Iterable[Json]) -> list[tuple[str, int, date]]:
    """(id, amount, day) of disputes that keep, or may keep, the money from us."""
    return [
        (object_id(dispute), _int(dispute, "amount"), _day(moment(dispute.get("created"))))
        for dispute in found
        if dispute.get("status") not in KEPT_DISPUTES
    ]


def taken_back(
    kind: str, earned: Sequence[Item], entries: Iterable[tuple[str, int, date]]
) -> list[Item]:
    """Negative items for money taken back: of each plan its share, of each share its tax."""
    items = []
    for external_id, amount, day in entries:
        for share, item in _shares(amount, earned):
            tax = share * item.tax // item.gross if item.gross else 0
            items.append(
                replace(
                    item,
                    kind=kind,
                    external_id=external_id,
                    price="",
                    gross=-share,
                    tax=-tax,
                    starts_on=day,
                    ends_on=day + DAY,
                )
            )
    return items


def _shares(amount: int, earned: Sequence[Item]) -> list[tuple[int, Item]]:
    """The amount divided among plans by what they earned; the largest takes what rounding left."""
    by_plan: dict[int | None, Item] = {}
    for item in earned:
        known = by_plan.get(item.plan_id)
        by_plan[item.plan_id] = (
            item
            if known is None
            else replace(known, gross=known.gross + item.gross, tax=known.tax + item.tax)
        )
    paid = sorted((one for one in by_plan.values() if one.gross > 0), key=lambda one: -one.gross)
    if not paid:
        nothing = Item(Kind.REST, "", "", 0, 0, date.min, date.max)
        return [(amount, nothing)]
    whole = sum(one.gross for one in paid)
    shares = [amount * one.gross // whole for one in paid]
    shares[0] += amount - sum(shares)
    return [(share, one) for share, one in zip(shares, paid, strict=True) if share]


# Small things


def _paid_at(invoice: Json) -> Any:
    moments = invoice.get("status_transitions")
    paid = moments.get("paid_at") if isinstance(moments, Mapping) else None
    return moment(paid) or moment(invoice.get("created"))


paid_at = _paid_at


def _day(at: Any) -> date:
    return date(1970, 1, 1) if at is None else at.astimezone(UTC).date()


def _int(holder: Json, name: str) -> int:
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _entries(holder: Json, name: str) -> list[Json]:
    value = holder.get(name)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []

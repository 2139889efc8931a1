"""Revenue by day: each item spread evenly over its days, to the cent.

Up to day ``d`` an item of ``n`` days has earned ``round(revenue * d / n, 2)``, and in a stretch of
days what it earned up to its end less what it earned up to its start. So the days of an item sum
to the item whatever is rounded, and stretches to the whole. Nothing is stored: an invoice or a
refund that comes late changes the days it belongs to, however long they are over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Count, Sum

from plans.models import RevenueInvoice, RevenueItem
from tesslate.lib.sql import fetch

DIMENSIONS = {"day", "customer_id", "plan_id", "currency", "kind"}

UP_TO = "round(revenue * (({moment}) - starts_on)::numeric / (ends_on - starts_on), 2)"
IN_STRETCH = "{to_end} - {to_start}".format(
    to_end=UP_TO.format(moment="least(ends_on, {end})"),
    to_start=UP_TO.format(moment="greatest(starts_on, {start})"),
)
OVERLAPS = "starts_on < {end} AND ends_on > {start} AND revenue IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Recognised:
    """US dollars earned by what ``group`` says, as a row of the dimensions that were asked for."""

    group: tuple[Any, ...]
    revenue: Decimal


def recognised(start: date, end: date, *, by: Sequence[str] = ()) -> list[Recognised]:
    """Revenue from ``start`` to ``end`` (not included, UTC), net of tax, discounts and refunds.

    ``by`` are names of DIMENSIONS. Money in currencies without a known rate is not in it: see
    ``unconverted``.
    """
    unknown = set(by) - DIMENSIONS
    if unknown:
        raise ValueError(f"no such dimension: {unknown}")
    columns = ", ".join(by)
    if "day" in by:
        source = (
            "plans_revenueitem JOIN LATERAL (SELECT generate_series(greatest(starts_on, %(start)s),"
            " least(ends_on, %(end)s) - 1, interval '1 day')::date AS day) days ON true"
        )
        first, last = "day", "day + 1"
    else:
        source, first, last = "plans_revenueitem", "%(start)s", "%(end)s"
    amount = IN_STRETCH.format(start=first, end=last)
    query = (
        f"SELECT {columns + ', ' if by else ''}coalesce(sum({amount}), 0) FROM {source} "  # noqa: S608
        f"WHERE {OVERLAPS.format(start='%(start)s', end='%(end)s')}"
        + (f" GROUP BY {columns} ORDER BY {columns}" if by else "")
    )
    return [Recognised(row[:-1], row[-1]) for row in fetch(query, {"start": start, "end": end})]


def revenue_between(start: date, end: date) -> Decimal:
    return recognised(start, end)[0].revenue


@dataclass(frozen=True, slots=True)
class Caveats:
    """What a margin over these days does not know for certain."""

    # (currency, net amount in its smallest unit) that no rate is known for.
    unconverted: list[tuple[str, int]]
    # Invoices whose fee or rate may still change, and those still to be read.
    provisional: int
    unread: int
    fees: Decimal


def caveats(start: date, end: date) -> Caveats:
    """``fees`` are those of invoices that were paid in these days, in US dollars."""
    missing = (
        RevenueItem.objects.filter(revenue=None, starts_on__lt=end, ends_on__gt=start)
        .order_by("currency")
        .values_list("currency")
        .annotate(amount=Sum("net"))
    )
    paid = RevenueInvoice.objects.filter(paid_at__date__gte=start, paid_at__date__lt=end)
    found = paid.aggregate(fees=Sum("fee"))
    return Caveats(
        unconverted=list(missing),
        provisional=paid.filter(is_provisional=True).aggregate(n=Count("pk"))["n"],
        unread=RevenueInvoice.objects.filter(stale_since__isnull=False).count(),
        fees=found["fees"] or Decimal(0),
    )

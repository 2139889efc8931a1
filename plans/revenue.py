"""Keep our copy of what customers paid. Level-triggered, like everything that Stripe tells.

An event only says which invoice to look at again: it is marked stale in the event's own
transaction, and a worker reads the invoice with all that paid it and all that was taken back, and
replaces its items. So three events for one payment make one revenue, an invoice that is changed,
voided or deleted later is right after its next reading, and nothing depends on order.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from plans import revenue_reading as reading
from plans import stripe_client
from plans.customers import find_customer
from plans.errors import StripeError
from plans.models import (
    ExchangeRate,
    OverageMeter,
    Price,
    RevenueCharge,
    RevenueInvoice,
    RevenueItem,
)
from plans.revenue_reading import Item, Kind
from plans.stripe_client import Stripe
from plans.stripe_reading import Json, is_paid, object_id, subscription_id
from tesslate.lib.currencies import major

logger = logging.getLogger(__name__)

# What gateways ask for calls, so that margins need no further rate.
REPORTING_CURRENCY = "usd"
CENT = Decimal("0.01")
Rate = RevenueInvoice.Rate

# A balance transaction, a pending refund or a missing rate is looked for this often.
LOOK_AGAIN_AFTER = timedelta(hours=1)
LONGEST_WAIT = timedelta(hours=6)
# For as long nobody else reads what one worker is reading.
LEASE = timedelta(minutes=2)

Waiting = TypeVar("Waiting", RevenueInvoice, RevenueCharge)


# What to read


def note_invoices(invoice_ids: Iterable[str], *, at: datetime | None = None) -> None:
    """Have these invoices read again, in the caller's transaction."""
    now = at or timezone.now()
    RevenueInvoice.objects.bulk_create(
        (
            RevenueInvoice(stripe_invoice_id=found, stale_since=now, next_attempt_at=now)
            # In one order everywhere, so that two transactions never wait for each other.
            for found in sorted(set(invoice_ids) - {""})
        ),
        update_conflicts=True,
        unique_fields=["stripe_invoice_id"],
        update_fields=["stale_since", "next_attempt_at"],
    )


def note_event(kind: str, about: Json) -> None:
    """Mark what an event touches: its invoice, or a charge whose invoice is still to be found."""
    if kind.startswith("invoice."):
        # An invoice.upcoming has no id.
        note_invoices([object_id(about)])
    elif kind.startswith(("invoice_payment.", "credit_note.")):
        note_invoices([object_id(about.get("invoice"))])
    elif kind.startswith(("charge.", "refund.")):
        charge = object_id(about if about.get("object") == "charge" else about.get("charge"))
        if charge:
            RevenueCharge.objects.get_or_create(stripe_charge_id=charge)


def note_unconverted(currency: str) -> None:
    """A rate for this currency was entered: invoices that waited for one are read again."""
    waiting = RevenueInvoice.objects.filter(currency=currency).filter(
        Q(fx_source=Rate.MISSING) | Q(fx_source=Rate.TABLE, is_provisional=True)
    )
    note_invoices(waiting.values_list("stripe_invoice_id", flat=True))


def note_unsettled(*, at: datetime | None = None) -> None:
    """Have invoices read again whose fees or rates are not final."""
    now = at or timezone.now()
    unsettled = RevenueInvoice.objects.filter(
        is_provisional=True, stale_since=None, read_at__lte=now - LOOK_AGAIN_AFTER
    )
    note_invoices(unsettled.values_list("stripe_invoice_id", flat=True), at=now)


# Reading


def read_next(*, at: datetime | None = None) -> bool:
    """Read one charge or invoice that waits; says whether there was one."""
    now = at or timezone.now()
    return _find_invoice_of_next_charge(now) or _read_next_invoice(now)


def _find_invoice_of_next_charge(now: datetime) -> bool:
    row = _claim(RevenueCharge.objects.filter(next_attempt_at__lte=now), now)
    if row is None:
        return False
    try:
        found = invoices_of_charge(row.stripe_charge_id)
    except StripeError as error:
        logger.warning("the invoice of %s could not be found: %s", row, error)
    else:
        with transaction.atomic():
            note_invoices(found, at=now)
            row.delete()
    return True


def _claim(due: QuerySet[Waiting], now: datetime) -> Waiting | None:
    """Take what waits longest for a while. No lock is held while Stripe is asked, or an event
    about the same invoice would have to wait."""
    with transaction.atomic():
        row = due.select_for_update(skip_locked=True).order_by("next_attempt_at").first()
        if row is not None:
            row.next_attempt_at = now + LEASE
            row.save(update_fields=["next_attempt_at"])
    return row


def invoices_of_charge(charge_id: str) -> list[str]:
    """The invoices that a charge paid: named by it until acacia, by InvoicePayment since."""
    stripe = stripe_client.connection()
    charge = stripe.charge(charge_id)
    if charge is None:
        return []
    if object_id(charge.get("invoice")):
        return [object_id(charge.get("invoice"))]
    intent = object_id(charge.get("payment_intent"))
    if not intent:
        return []
    return [object_id(one.get("invoice")) for one in stripe.invoice_payments(payment_intent=intent)]


def _read_next_invoice(now: datetime) -> bool:
    due = RevenueInvoice.objects.filter(stale_since__isnull=False, next_attempt_at__lte=now)
    row = _claim(due, now)
    if row is None:
        return False
    try:
        read_invoice(row, at=now)
    except StripeError as error:
        _postpone(row, now, str(error))
    except Exception as error:
        logger.exception("invoice %s could not be read", row.stripe_invoice_id)
        _postpone(row, now, f"{type(error).__name__}: {error}")
    return True


def _postpone(row: RevenueInvoice, now: datetime, error: str) -> None:
    attempts = row.attempts + 1
    wait = min(timedelta(seconds=10) * 2 ** min(attempts, 12), LONGEST_WAIT)
    RevenueInvoice.objects.filter(pk=row.pk).update(
        attempts=attempts, next_attempt_at=now + wait, last_error=error[:500]
    )


def read_invoice(row: RevenueInvoice, *, at: datetime) -> None:
    """Replace what we hold of an invoice by what Stripe says now. Raises StripeError.

    What was marked stale again meanwhile stays so.
    """
    asked_since = row.stale_since
    items = _read(row)
    with transaction.atomic():
        held = RevenueInvoice.objects.select_for_update().get(pk=row.pk)
        if held.read_at is not None and held.read_at > at:
            return  # somebody read later than we
        row.read_at, row.attempts, row.last_error = at, 0, ""
        row.stale_since, row.next_attempt_at = None, held.next_attempt_at
        if held.stale_since != asked_since:
            row.stale_since, row.next_attempt_at = held.stale_since, at
        row.save()
        row.items.all().delete()
        RevenueItem.objects.bulk_create(_row_of(item, row) for item in items)


def _read(row: RevenueInvoice) -> list[Item]:
    """Set the row's fields from Stripe, without saving; the items."""
    stripe = stripe_client.connection()
    invoice = stripe.invoice(row.stripe_invoice_id)
    if invoice is None or invoice.get("deleted") is True:
        row.status, row.is_provisional = "deleted", False
        return []
    row.status = str(invoice.get("status") or "")
    row.stripe_customer_id = object_id(invoice.get("customer"))
    row.stripe_subscription_id = subscription_id(invoice)
    row.customer = find_customer(row.stripe_customer_id)
    row.currency = str(invoice.get("currency") or "").lower()
    row.total, row.tax = int(invoice.get("total") or 0), reading.total_tax(invoice)
    if not is_paid(invoice):
        row.paid_at, row.is_provisional = None, False
        return []
    row.paid_at = reading.paid_at(invoice)
    money = _payments(stripe, row.stripe_invoice_id)
    _convert(row, money)
    return list(_items(stripe, invoice, money))


@dataclass(slots=True)
class Payments:
    """What paid an invoice. ``settled`` and ``charged`` are amounts in major units."""

    intents: list[str] = field(default_factory=list)
    charged: Decimal = Decimal(0)
    settled: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    disputes: list[Json] = field(default_factory=list)
    # A charge without balance transaction, or one in a currency that we cannot compare.
    is_unsettled: bool = False


def _payments(stripe: Stripe, invoice_id: str) -> Payments:
    money = Payments()
    for payment in stripe.invoice_payments(invoice=invoice_id):
        if payment.get("status") != "paid":
            continue
        intent_id = object_id((payment.get("payment") or {}).get("payment_intent"))
        intent = stripe.payment_intent(intent_id)
        if intent is None:
            continue
        money.intents.append(intent_id)
        charge = intent.get("latest_charge")
        if isinstance(charge, Mapping):
            _add_charge(money, charge)
        money.disputes += stripe.disputes(payment_intent=intent_id)
    for dispute in money.disputes:
        for entry in dispute.get("balance_transactions") or []:
            _add_fee(money, entry)
    return money


def _add_charge(money: Payments, charge: Json) -> None:
    entry = charge.get("balance_transaction")
    if not isinstance(entry, Mapping):
        money.is_unsettled = True
        return
    _add_fee(money, entry)
    if entry.get("currency") == REPORTING_CURRENCY:
        money.charged += major(int(charge["amount"]), str(charge["currency"]))
        money.settled += major(int(entry["amount"]), REPORTING_CURRENCY)


def _add_fee(money: Payments, entry: Mapping[str, Any]) -> None:
    currency = str(entry.get("currency"))
    fee = major(int(entry.get("fee") or 0), currency)
    if currency == REPORTING_CURRENCY or not fee:
        money.fees += fee
        return
    rate = rate_of(currency, timezone.now())
    if rate is None:
        money.is_unsettled = True
    else:
        money.fees += fee * rate


def _convert(row: RevenueInvoice, money: Payments) -> None:
    """The rate by which the invoice becomes dollars; stored, so that a day stays what it was."""
    row.fee = money.fees.quantize(CENT, ROUND_HALF_EVEN)
    row.is_provisional = money.is_unsettled
    if row.currency == REPORTING_CURRENCY:
        row.fx_rate, row.fx_source = Decimal(1), Rate.SAME
    elif money.charged:
        row.fx_rate, row.fx_source = money.settled / money.charged, Rate.STRIPE
    elif row.paid_at is not None and (rate := rate_of(row.currency, row.paid_at)) is not None:
        row.fx_rate, row.fx_source = rate, Rate.TABLE
    else:
        row.fx_rate, row.fx_source = None, Rate.MISSING


def rate_of(currency: str, at: datetime) -> Decimal | None:
    """US dollars for one unit on that day, from our own table."""
    known = ExchangeRate.objects.filter(currency=currency.lower(), day__lte=at.date())
    found = known.order_by("-day").first()
    return None if found is None else found.rate


def _items(stripe: Stripe, invoice: Json, money: Payments) -> Iterator[Item]:
    lines = list(stripe.invoice_lines(invoice))
    earned = _with_plans(reading.items_of_invoice(invoice, lines))
    yield from earned
    for intent in money.intents:
        returned = reading.refunds(stripe.refunds(payment_intent=intent))
        yield from reading.taken_back(Kind.REFUND, earned, returned)
    notes = reading.credit_notes(stripe.credit_notes(invoice=object_id(invoice)))
    yield from reading.taken_back(Kind.CREDIT_NOTE, earned, notes)
    lost = reading.disputes(money.disputes)
    yield from reading.taken_back(Kind.DISPUTE, earned, lost)


def _with_plans(items: list[Item]) -> list[Item]:
    plans: dict[str | None, int] = dict(
        Price.objects.filter(stripe_price_id__in={item.price for item in items}).values_list(
            "stripe_price_id", "plan_id"
        )
    )
    known = [replace(item, plan_id=plans.get(item.price)) for item in items]
    # Overage has one price for all plans: it belongs to the plan that the invoice is about.
    plan_id = next((item.plan_id for item in reversed(known) if item.plan_id is not None), None)
    beyond = set(OverageMeter.objects.values_list("stripe_price_id", flat=True))
    return [
        replace(item, plan_id=plan_id) if item.price and item.price in beyond else item
        for item in known
    ]


def _row_of(item: Item, invoice: RevenueInvoice) -> RevenueItem:
    revenue = None
    if invoice.fx_rate is not None:
        dollars = major(item.net, invoice.currency) * invoice.fx_rate
        revenue = dollars.quantize(CENT, ROUND_HALF_EVEN)
    return RevenueItem(
        invoice=invoice,
        kind=item.kind,
        external_id=item.external_id,
        customer=invoice.customer,
        plan_id=item.plan_id,
        stripe_price_id=item.price,
        currency=invoice.currency,
        gross=item.gross,
        tax=item.tax,
        net=item.net,
        revenue=revenue,
        starts_on=item.starts_on,
        ends_on=item.ends_on,
    )


# All of it


def note_all(*, since: datetime, at: datetime | None = None) -> int:
    """Have every invoice made since then read again: for a first start and for what was missed."""
    found = [
        object_id(invoice)
        for invoice in stripe_client.connection().invoices(created_from=int(since.timestamp()))
    ]
    note_invoices(found, at=at)
    return len(found)

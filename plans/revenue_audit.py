"""Compare our books of revenue with Stripe's lists, and have read again what differs.

For what no webhook told. Lists cost a request for a hundred objects, so all of a month is cheap;
only what differs is read in full.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from plans import revenue, stripe_client
from plans.metrics import REVENUE_AUDITED
from plans.models import RevenueCharge, RevenueInvoice, RevenueItem
from plans.revenue_reading import LOST_REFUNDS
from plans.stripe_reading import object_id

# Longer than a month, so that each invoice is looked at in the period that it pays for.
REACH = timedelta(days=40)
CHUNK = 500


@dataclass(slots=True)
class Report:
    """Numbers of invoices and refunds at Stripe, and of those that our books had otherwise."""

    invoices: int = 0
    refunds: int = 0
    differing: int = 0


def audit_revenue(*, at: datetime | None = None, reach: timedelta = REACH) -> Report:
    """Raises StripeError, with what was found before already marked."""
    now = at or timezone.now()
    since = int((now - reach).timestamp())
    report = Report()
    _audit_invoices(report, since, now)
    _audit_refunds(report, since)
    REVENUE_AUDITED.labels("agreed").inc(report.invoices + report.refunds - report.differing)
    REVENUE_AUDITED.labels("differed").inc(report.differing)
    return report


def _audit_invoices(report: Report, since: int, now: datetime) -> None:
    at_stripe: dict[str, tuple[str, int]] = {}
    for invoice in stripe_client.connection().invoices(created_from=since):
        at_stripe[object_id(invoice)] = (str(invoice.get("status")), int(invoice["total"]))
        if len(at_stripe) == CHUNK:
            _compare_invoices(report, at_stripe, now)
            at_stripe.clear()
    _compare_invoices(report, at_stripe, now)


def _compare_invoices(report: Report, at_stripe: dict[str, tuple[str, int]], now: datetime) -> None:
    held = {
        found: (status, total)
        for found, status, total in RevenueInvoice.objects.filter(
            stripe_invoice_id__in=at_stripe
        ).values_list("stripe_invoice_id", "status", "total")
    }
    differing = [found for found, facts in at_stripe.items() if held.get(found) != facts]
    revenue.note_invoices(differing, at=now)
    report.invoices += len(at_stripe)
    report.differing += len(differing)


def _audit_refunds(report: Report, since: int) -> None:
    for refund in stripe_client.connection().refunds_since(created_from=since):
        report.refunds += 1
        counts = refund.get("status") not in LOST_REFUNDS
        rows = RevenueItem.objects.filter(
            kind=RevenueItem.Kind.REFUND, external_id=object_id(refund)
        )
        held = -sum(rows.values_list("gross", flat=True))
        charge = object_id(refund.get("charge"))
        if held != (refund.get("amount") if counts else 0) and charge:
            report.differing += 1
            RevenueCharge.objects.get_or_create(stripe_charge_id=charge)

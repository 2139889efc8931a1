"""Billing figures for Prometheus."""

from collections.abc import Iterable

from django.db.models import Count, Min, Sum
from django.utils import timezone
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from plans.models import OverageReport, RevenueInvoice

WEBHOOKS = Counter(
    "tesslate_webhooks_total",
    "Webhook requests by what became of them.",
    ["outcome"],
)
EVENTS = Counter(
    "tesslate_stripe_events_total",
    "Stored events by what became of them.",
    ["type", "state"],
)
EVENT_LAG = Histogram(
    "tesslate_stripe_event_lag_seconds",
    "From storing an event to its last processing step.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 86400),
)
EVENT_FAILURES = Counter(
    "tesslate_stripe_event_failures_total",
    "Processing attempts that failed, by kind of failure.",
    ["kind"],
)
PROBLEMS_OPENED = Counter(
    "tesslate_billing_problems_total",
    "Billing problems opened, by kind.",
    ["kind"],
)
RECONCILED = Counter(
    "tesslate_billing_reconciled_total",
    "Subscriptions that reconciliation looked at, by what it found.",
    ["finding"],
)
REVENUE_AUDITED = Counter(
    "tesslate_revenue_audited_total",
    "Invoices and refunds at Stripe, by whether our books of revenue had them so.",
    ["finding"],
)
OVERAGE_UNITS = Counter(
    "tesslate_overage_cents_reported_total", "US cents of overage that Stripe's meter took."
)


def figures() -> Iterable[Metric]:
    """What the books of revenue wait for, read at scrape time."""
    unread = RevenueInvoice.objects.filter(stale_since__isnull=False).aggregate(
        count=Count("pk"), since=Min("stale_since")
    )
    lag = 0.0 if unread["since"] is None else (timezone.now() - unread["since"]).total_seconds()
    yield GaugeMetricFamily(
        "tesslate_revenue_unread_invoices", "Invoices still to be read.", value=unread["count"]
    )
    yield GaugeMetricFamily(
        "tesslate_revenue_unread_seconds", "How long the oldest of them has waited.", value=lag
    )
    yield from _overage_figures()
    yield GaugeMetricFamily(
        "tesslate_revenue_unconverted_invoices",
        "Paid invoices in a currency for which no rate is known: not in any margin.",
        value=RevenueInvoice.objects.filter(
            fx_source=RevenueInvoice.Rate.MISSING, paid_at__isnull=False
        ).count(),
    )


def _overage_figures() -> Iterable[Metric]:
    waiting = OverageReport.objects.filter(state=OverageReport.State.PENDING).aggregate(
        units=Sum("units"), since=Min("occurred_at")
    )
    lag = 0.0 if waiting["since"] is None else (timezone.now() - waiting["since"]).total_seconds()
    yield GaugeMetricFamily(
        "tesslate_overage_unreported_cents",
        "US cents of overage that Stripe has still to be told of.",
        value=waiting["units"] or 0,
    )
    yield GaugeMetricFamily(
        "tesslate_overage_unreported_seconds", "How long the oldest of them waits.", value=lag
    )
    yield GaugeMetricFamily(
        "tesslate_overage_refused_reports",
        "Reports of overage that Stripe refused: a person has to look.",
        value=OverageReport.objects.filter(state=OverageReport.State.REFUSED).count(),
    )

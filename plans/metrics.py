"""Billing figures for Prometheus."""

from prometheus_client import Counter, Histogram

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

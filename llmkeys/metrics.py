"""Key figures for Prometheus. What the database knows is read at scrape time (``figures``)."""

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db.models import Count, Min, Q, Sum
from django.utils import timezone
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from llmkeys.models import AuditRun, GatewayState, PlanAtGateway, UsageDay, UsageImport, VirtualKey

SYNCS = Counter("tesslate_key_syncs_total", "Turns of work on a key, by outcome.", ["outcome"])
SYNC_LAG = Histogram(
    "tesslate_key_sync_lag_seconds",
    "From the change that concerns a key to the gateway holding it.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200),
)
ACCESS_LAG = Histogram(
    "tesslate_access_lag_seconds",
    "From the arrival of Stripe's event to the gateway holding the key that it changed.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 86400),
)
ENFORCEMENT_LAG = Histogram(
    "tesslate_key_enforcement_lag_seconds",
    "From withdrawing access at the gateway to a probe that finds it gone.",
    buckets=(0.1, 0.5, 1, 5, 15, 30, 60, 90, 300),
)

BUDGET_NOTICES = Counter(
    "tesslate_budget_notices_total",
    "Attempts to tell customers of their budgets, by channel and outcome.",
    ["channel", "outcome"],
)
USAGE_ROWS = Counter(
    "tesslate_usage_rows_total",
    "Rows of the gateway's spend log: read, new on our books, unreadable.",
    ["outcome"],
)


def figures() -> Iterable[Metric]:
    """Gauges out of the database."""
    keys = VirtualKey.objects.aggregate(
        parked=Count("pk", filter=Q(parked_at__isnull=False)),
        unproven=Count("pk", filter=Q(probe_at__isnull=False)),
        disobeyed=Count("pk", filter=Q(enforcement_alarm_at__isnull=False)),
    )
    plans = PlanAtGateway.objects.filter(enforcement_alarm_at__isnull=False).count()
    yield _gauge("tesslate_keys_parked", "Keys given up after too many attempts.", keys["parked"])
    yield _gauge(
        "tesslate_keys_unproven", "Withdrawals not yet seen to be obeyed.", keys["unproven"]
    )
    yield _gauge(
        "tesslate_keys_not_enforced",
        "Withdrawals that the gateway has not obeyed in time.",
        keys["disobeyed"] + plans,
    )
    yield from _audit_figures()
    yield from _convergence_figures()
    yield from _usage_figures()


def _usage_figures() -> Iterable[Metric]:
    """A log that was never read is behind since our first key."""
    state = UsageImport.objects.filter(gateway_url=settings.LITELLM_URL).first()
    oldest = VirtualKey.objects.aggregate(at=Min("created_at"))["at"]
    read_until = state.read_until if state is not None else oldest
    lag = timedelta(0) if read_until is None else timezone.now() - read_until
    yield _gauge(
        "tesslate_usage_import_lag_seconds",
        "How far the gateway's spend log is still to be read.",
        max(0.0, lag.total_seconds()),
    )
    since = timezone.now().date() - timedelta(days=1)
    sums = UsageDay.objects.filter(day__gte=since)
    yield _gauge(
        "tesslate_usage_unpriced_requests",
        "Calls since yesterday that used tokens and have no price at the gateway.",
        sums.aggregate(calls=Sum("unpriced"))["calls"] or 0,
    )
    nobodys = sums.filter(user=None).aggregate(dollars=Sum("cost"))["dollars"]
    yield _gauge(
        "tesslate_usage_unattributed_dollars",
        "Cost since yesterday of calls with keys that are not ours.",
        float(nobodys or 0),
    )


def _audit_figures() -> Iterable[Metric]:
    last = AuditRun.objects.filter(state=AuditRun.State.FINISHED).first()
    found = GaugeMetricFamily(
        "tesslate_audit_keys", "Keys by what the last whole audit found.", labels=["kind"]
    )
    for kind, count in (last.counts if last else {}).items():
        found.add_metric([kind], count)
    yield found
    if last is not None and last.finished_at is not None:
        at = last.finished_at.timestamp()
        yield _gauge("tesslate_audit_finished_timestamp", "When it finished.", at)


def _convergence_figures() -> Iterable[Metric]:
    """What the last comparison of everything found (llmkeys.converge), stage by stage."""
    state = GatewayState.objects.filter(url=settings.LITELLM_URL).first()
    checked = GaugeMetricFamily(
        "tesslate_convergence_checked", "Looked at by the last comparison.", labels=["stage"]
    )
    differing = GaugeMetricFamily(
        "tesslate_convergence_differences",
        "Differences that the last comparison of billing with the gateway found.",
        labels=["stage"],
    )
    for stage, looked_at, differ in state.comparison if state else []:
        checked.add_metric([stage], looked_at)
        differing.add_metric([stage], differ)
    yield from (checked, differing)
    if state is not None and state.compared_at is not None:
        text = "When everything was last compared."
        yield _gauge("tesslate_compared_timestamp", text, state.compared_at.timestamp())
    if state is not None and state.converged_at is not None:
        text = "When everything was last compared and found equal."
        yield _gauge("tesslate_converged_timestamp", text, state.converged_at.timestamp())


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)

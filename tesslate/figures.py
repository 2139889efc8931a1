"""Figures that cost too much to count at every scrape: counted once a minute or less often, by
whichever process is asked first, and kept in the cache for the others."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from django.core.cache import cache
from django.db.models import Sum
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement
from tesslate.margin.figures import losing

KEPT_SECONDS = 60
SPEND = "figures:spend"
# Margins move by the hour, and are a walk over a month of day sums.
LOSSES_KEPT_SECONDS = 600
LOSSES = "figures:losses"
LOSS_DAYS = 30
Source = CurrentEntitlement.Source
# Who pays for what a user spends, by where the user has the plan from.
PAID_BY = {
    Source.SUBSCRIPTION.value: "customer",
    Source.ORGANIZATION.value: "customer",
    Source.GRANT.value: "grant",
    Source.DEFAULT.value: "free_plan",
}
OVERDUE = "overdue"


def spend_by_payer() -> dict[str, float]:
    """Dollars spent at the gateway in the budget windows that run now, by who pays for them."""
    found = dict.fromkeys([*PAID_BY.values(), OVERDUE], Decimal(0))
    rows = (
        VirtualKey.live.filter(spend__gt=0)
        .values_list(
            "user__current_entitlement__source", "user__current_entitlement__grace_ends_at"
        )
        .annotate(dollars=Sum("spend"))
        .order_by()
    )
    for source, grace_ends_at, dollars in rows:
        payer = OVERDUE if grace_ends_at is not None else PAID_BY.get(source, "nobody")
        found[payer] = found.get(payer, Decimal(0)) + dollars
    return {payer: float(dollars) for payer, dollars in found.items()}


def losses() -> tuple[int, float]:
    """Customers who paid in the last 30 days and cost more than they paid: how many, and the US
    dollars that they cost on top."""
    end = timezone.now().date() + timedelta(days=1)
    lines = losing(end - timedelta(days=LOSS_DAYS), end)
    return len(lines), float(-sum((line.margin for line in lines), Decimal(0)))


def slow_figures() -> Iterable[Metric]:
    """Nothing while the cache is down: each process would count for itself."""
    try:
        spend = cache.get_or_set(SPEND, spend_by_payer, KEPT_SECONDS)
        customers, dollars = cache.get_or_set(LOSSES, losses, LOSSES_KEPT_SECONDS) or (0, 0.0)
    except RedisError:
        return
    yield GaugeMetricFamily(
        "tesslate_customers_at_a_loss",
        "Customers who paid in the last 30 days and cost more at the gateway than they paid.",
        value=customers,
    )
    yield GaugeMetricFamily(
        "tesslate_loss_dollars",
        "What these customers cost more than they paid in the last 30 days.",
        value=dollars,
    )
    gauge = GaugeMetricFamily(
        "tesslate_spend_dollars",
        "Spent at the gateway in the present budget windows, by who pays for it.",
        labels=["paid_by"],
    )
    for payer, dollars in (spend or {}).items():
        gauge.add_metric([payer], dollars)
    yield gauge

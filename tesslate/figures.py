"""Figures that cost too much to count at every scrape: counted at most once a minute, by whichever
process is asked first, and kept in the cache for the others."""

from collections.abc import Iterable
from decimal import Decimal

from django.core.cache import cache
from django.db.models import Sum
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement

KEPT_SECONDS = 60
SPEND = "figures:spend"
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


def slow_figures() -> Iterable[Metric]:
    """Nothing while the cache is down: each process would count for itself."""
    try:
        spend = cache.get_or_set(SPEND, spend_by_payer, KEPT_SECONDS)
    except RedisError:
        return
    gauge = GaugeMetricFamily(
        "tesslate_spend_dollars",
        "Spent at the gateway in the present budget windows, by who pays for it.",
        labels=["paid_by"],
    )
    for payer, dollars in (spend or {}).items():
        gauge.add_metric([payer], dollars)
    yield gauge

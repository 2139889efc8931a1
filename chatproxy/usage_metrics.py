"""What the comparison of the two books of usage found, read at scrape time."""

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Sum
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric

from chatproxy.usage_models import UsageCheck

# What a day is still compared for by itself.
WATCHED = timedelta(days=3)


def figures() -> Iterable[Metric]:
    recent = UsageCheck.objects.filter(day__gte=timezone.now().date() - WATCHED)
    found = recent.aggregate(dollars=Sum("unexplained_cost"), requests=Sum("unexplained_requests"))
    yield GaugeMetricFamily(
        "tesslate_usage_unexplained_dollars",
        "Cost of the last days on which gateway and ledger differ without a known reason.",
        value=float(found["dollars"] or 0),
    )
    yield GaugeMetricFamily(
        "tesslate_usage_unexplained_requests",
        "Requests of the last days on which they differ without a known reason.",
        value=found["requests"] or 0,
    )
    last = UsageCheck.objects.order_by("-checked_at").first()
    if last is not None:
        yield GaugeMetricFamily(
            "tesslate_usage_checked_timestamp",
            "When gateway and ledger were last compared.",
            value=last.checked_at.timestamp(),
        )

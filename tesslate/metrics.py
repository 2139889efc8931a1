"""GET /metrics: Prometheus figures of this process, or of all of them, and of the database.

Apps define counters and histograms in their own metrics modules; those of several processes are
added up through PROMETHEUS_MULTIPROC_DIR. What the database knows (backlogs, plans, drift) is read
at scrape time and so is the same whichever process is asked.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, connection
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accounts.models import User
from chatproxy.usage_metrics import figures as usage_figures
from llmkeys import breaker
from llmkeys.metrics import figures as key_figures
from plans.gateway_config import CannotRead, model_providers
from plans.metrics import figures as revenue_figures
from plans.models import CurrentEntitlement, GatewayModel
from plans.problems import problems
from tesslate import health
from tesslate.backlogs import inbox_backlog, key_backlog
from tesslate.errorviews import only_read
from tesslate.exposition import may_read, process_figures
from tesslate.figures import slow_figures

logger = logging.getLogger(__name__)


class DatabaseFigures(Collector):
    """Gauges out of the database, each from an indexed count."""

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        yield from self._backlogs()
        yield self._users_by_plan()
        yield GaugeMetricFamily(
            "tesslate_users_suspended",
            "Users whose access to models is withdrawn.",
            value=User.objects.filter(suspended_at__isnull=False, deleted_at=None).count(),
        )
        yield from key_figures()
        yield from usage_figures()
        yield from revenue_figures()
        yield self._problems()
        yield self._models()
        yield from self._connections()
        yield from slow_figures()
        yield GaugeMetricFamily(
            "tesslate_gateway_breaker_open",
            "1 while workers leave the gateway alone because it fails.",
            value=int(breaker.is_open()),
        )

    def _backlogs(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily(
            "tesslate_backlog", "Units of work that wait to be done.", labels=["work"]
        )
        oldest = GaugeMetricFamily(
            "tesslate_backlog_oldest_seconds",
            "How long the oldest of them has waited.",
            labels=["work"],
        )
        stuck = GaugeMetricFamily(
            "tesslate_backlog_stuck",
            "Units that were given up and wait for a person.",
            labels=["work"],
        )
        for name, backlog in (("inbox", inbox_backlog()), ("key_sync", key_backlog())):
            waiting.add_metric([name], backlog.waiting)
            oldest.add_metric([name], backlog.oldest_seconds)
            stuck.add_metric([name], backlog.stuck)
        return waiting, oldest, stuck

    def _users_by_plan(self) -> Metric:
        gauge = GaugeMetricFamily(
            "tesslate_users",
            "Users by plan and by where they have it from.",
            labels=["plan", "source"],
        )
        rows = CurrentEntitlement.objects.values_list("plan__code", "source")
        for code, source, users in rows.annotate(users=Count("pk")).order_by():
            gauge.add_metric([code, source], users)
        return gauge

    def _problems(self) -> Metric:
        gauge = GaugeMetricFamily(
            "tesslate_billing_problems_open", "What billing asks a person to mend.", labels=["kind"]
        )
        for kind, count in Counter(problem.kind for problem in problems()).items():
            gauge.add_metric([kind], count)
        return gauge

    def _models(self) -> Metric:
        """To be joined with figures by model, which do not know the provider."""
        gauge = GaugeMetricFamily(
            "tesslate_model_info",
            "1 for each model, with its provider.",
            labels=["model", "provider"],
        )
        providers = _providers()
        for name in GatewayModel.objects.values_list("name", flat=True):
            gauge.add_metric([name, providers.get(name, "unknown")], 1)
        return gauge

    def _connections(self) -> Iterable[Metric]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity"
                " WHERE backend_type = 'client backend'"
            )
            used, most = cursor.fetchone()
        yield GaugeMetricFamily(
            "tesslate_database_connections", "Connections that PostgreSQL serves.", value=used
        )
        yield GaugeMetricFamily(
            "tesslate_database_connections_max", "Connections that it would serve.", value=most
        )


class Neighbours(Collector):
    """What /health finds, so that alerts need no second prober."""

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily(
            "tesslate_neighbour_up",
            "1 while /health finds the neighbour well, 0.5 while degraded.",
            labels=["neighbour"],
        )
        depth = GaugeMetricFamily(
            "tesslate_queue_depth", "Messages that wait for a worker.", labels=["queue"]
        )
        for name, finding in health.reporter.report().items():
            gauge.add_metric([name], {"ok": 1.0, "degraded": 0.5}.get(finding.state, 0.0))
            for queue, waiting in finding.details.get("queues", {}).items():
                depth.add_metric([queue], waiting)
        yield gauge
        yield depth


@cache
def _providers() -> dict[str, str]:
    """The gateway's file comes with the release: read once."""
    try:
        return model_providers(Path(settings.LITELLM_CONFIG_PATH))
    except CannotRead as problem:
        logger.warning("Metrics go without providers: %s", problem)
        return {}


@only_read
def metrics(request: HttpRequest) -> HttpResponse:
    if not may_read(request.headers, request.META.get("REMOTE_ADDR", "")):
        raise PermissionDenied
    text = generate_latest(process_figures()) + generate_latest(_registry(Neighbours()))
    try:
        text += generate_latest(_registry(DatabaseFigures()))
    except DatabaseError as error:
        # The rest is needed most when the database is down.
        logger.warning("Metrics go without the database's figures: %s", error)
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry

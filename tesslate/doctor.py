"""What is wrong with this installation, and what to do about it.

Each check returns what it found; a check that cannot be carried out is itself a finding. Used by
``manage.py doctor``. Nothing here changes anything.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.checks import WARNING as AT_LEAST_WARNING
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count

from llmkeys.drift import drift_now
from llmkeys.gateway import client as gateway
from plans.gateway_config import CannotRead, model_names
from plans.handlers import HANDLERS
from plans.models import GatewayModel, Price, StripeEvent, Subscription
from plans.stripe_client import connection as stripe_connection
from tesslate.backlogs import inbox_backlog, key_backlog
from tesslate.encryption import sample_opens
from tesslate.health import CHECKS, Degraded

OK, WARNING, FAILURE = "ok", "warning", "failure"
# Tokens and signatures allow a few seconds; beyond this they start to be refused.
TOLERABLE_SKEW_SECONDS = 5
# The events without which a change of access would wait for the daily reconciliation.
NEEDED_EVENTS = frozenset(
    {
        "checkout.session.completed",
        "customer.deleted",
        "customer.subscription.created",
        "customer.subscription.deleted",
        "customer.subscription.updated",
        "invoice.paid",
        "invoice.payment_failed",
    }
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding: ``state`` is ok, warning or failure; ``remedy`` says what to do, if anything."""

    name: str
    state: str
    finding: str
    remedy: str = ""


def diagnose() -> Iterator[Diagnosis]:
    """Every check in order, each bounded in time. Never raises."""
    for name, check in CHECKUPS.items():
        try:
            state, finding, remedy = check()
        except Exception as problem:  # noqa: BLE001 - a check that cannot run is a finding
            # The class alone: messages may hold addresses with passwords.
            state, finding = FAILURE, f"could not be checked: {type(problem).__name__}"
            remedy = "Mend what is reported above first; the log has the details."
        yield Diagnosis(name, state, finding, remedy)


Result = tuple[str, str, str]


def _neighbour(name: str, remedy: str) -> Callable[[], Result]:
    def checked() -> Result:
        try:
            details = CHECKS[name]()
        except Degraded as problem:
            return FAILURE, _told(problem.details) or "not as it should be", remedy
        except Exception as problem:  # noqa: BLE001 - whatever it is, the neighbour is not well
            return FAILURE, type(problem).__name__, remedy
        return OK, _told(details) or "answers", ""

    return checked


def _told(details: dict[str, Any]) -> str:
    if details.get("silent_seconds", 0) is None:
        return "not heard of within the last day"
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in details.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return "never" if value is None else str(value)


def _migrations() -> Result:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        return FAILURE, f"{len(missing)} not applied", "manage.py migrate"
    return OK, "all applied", ""


def _master_keys() -> Result:
    accepted = [gateway().accepts(key) for key in settings.LITELLM_MASTER_KEYS]
    if not any(accepted):
        return FAILURE, "the gateway refuses every one", "Set LITELLM_MASTER_KEYS to LiteLLM's own."
    if not all(accepted):
        position = accepted.index(False) + 1
        return (
            WARNING,
            f"the gateway refuses number {position} of {len(accepted)}",
            "Remove it from LITELLM_MASTER_KEYS once the rotation is over.",
        )
    return OK, f"{len(accepted)} accepted", ""


def _models() -> Result:
    planned = set(
        GatewayModel.objects.filter(
            plans__isnull=False, plans__archived_at=None, disabled_at=None
        ).values_list("name", flat=True)
    )
    if not planned:
        return FAILURE, "no plan has a model", "manage.py seed_plans, or edit the plans."
    if missing := planned - gateway().model_names():
        return (
            FAILURE,
            f"plans sell what the gateway does not serve: {', '.join(sorted(missing))}",
            "Add them to litellm.config.yaml and restart LiteLLM, or take them out of the plans.",
        )
    try:
        configured = model_names(Path(settings.LITELLM_CONFIG_PATH))
    except CannotRead as problem:
        return WARNING, str(problem), "Set LITELLM_CONFIG_PATH to LiteLLM's own file."
    if missing := planned - configured:
        return (
            WARNING,
            f"not in the file: {', '.join(sorted(missing))}",
            "Bring the file up to date.",
        )
    return OK, f"{len(planned)} sold, all served", ""


def _stripe_key() -> Result:
    next(iter(stripe_connection().products()), None)
    mode = "live" if settings.STRIPE_LIVEMODE else "test"
    if mode == "test" and not settings.DEBUG:
        return WARNING, "accepted, but it is a test key", "Use the live key on a server."
    return OK, f"accepted, {mode} mode", ""


def _webhook_endpoint() -> Result:
    address = f"{settings.PUBLIC_URL}/webhooks/stripe"
    endpoints = [
        endpoint
        for endpoint in stripe_connection().webhook_endpoints()
        if endpoint.get("url") == address and endpoint.get("status") == "enabled"
    ]
    if not endpoints:
        return (
            WARNING if settings.DEBUG else FAILURE,
            f"none at Stripe delivers to {address}",
            "Create it in Stripe's dashboard and put its secret into STRIPE_WEBHOOK_SECRETS.",
        )
    enabled = {event for endpoint in endpoints for event in endpoint.get("enabled_events", [])}
    if "*" not in enabled and (missing := NEEDED_EVENTS - enabled):
        return (
            FAILURE,
            f"not sent: {', '.join(sorted(missing))}",
            "Enable these events on the endpoint at Stripe.",
        )
    if "*" not in enabled and (unsent := HANDLERS.keys() - enabled):
        return (
            WARNING,
            f"not sent, so seen by the daily reconciliation at best: {', '.join(sorted(unsent))}",
            "Enable these events as well.",
        )
    version = endpoints[0].get("api_version")
    if version and version != settings.STRIPE_API_VERSION:
        return (
            WARNING,
            f"sends API version {version}, written for {settings.STRIPE_API_VERSION}",
            "Upgrade the endpoint's version at Stripe when convenient.",
        )
    return OK, f"delivers to {address}", ""


def _prices() -> Result:
    unmapped = (
        Subscription.objects.filter(price=None, ended_at=None)
        .values("stripe_price_id")
        .annotate(count=Count("pk"))
    )
    if unmapped:
        told = ", ".join(f"{row['stripe_price_id']} ({row['count']})" for row in unmapped)
        return FAILURE, f"subscriptions to prices of no plan: {told}", "Map them in the admin."
    unpublished = Price.objects.filter(archived_at=None, stripe_price_id=None).count()
    if unpublished:
        return WARNING, f"{unpublished} not at Stripe yet", "manage.py publish_plans --apply"
    return OK, "every subscription's price belongs to a plan", ""


def _clock() -> Result:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        others = {"the database": cursor.fetchone()[0]}
    response = httpx.get(f"{settings.LITELLM_URL}/health/liveliness", timeout=5)
    if "date" in response.headers:
        others["the gateway"] = parsedate_to_datetime(response.headers["date"])
    now = datetime.now(UTC)
    skews = {name: abs((now - theirs).total_seconds()) for name, theirs in others.items()}
    worst = max(skews, key=lambda name: skews[name])
    if skews[worst] > TOLERABLE_SKEW_SECONDS:
        return FAILURE, f"{skews[worst]:.0f} s apart from {worst}'s", "Run NTP on all machines."
    return OK, f"agrees with {' and '.join(skews)}", ""


def _encryption() -> Result:
    tried, closed = sample_opens()
    if closed:
        return (
            FAILURE,
            f"cannot be opened: {', '.join(closed)}",
            "Put the key that encrypted them back into ENCRYPTION_KEYS.",
        )
    return OK, f"{tried} stored values opened, of every kind the oldest and the newest", ""


def _inbox() -> Result:
    backlog = inbox_backlog()
    quarantined = StripeEvent.objects.filter(state=StripeEvent.State.QUARANTINED).count()
    if backlog.stuck or quarantined:
        return (
            WARNING,
            f"{backlog.stuck} dead, {quarantined} in quarantine",
            "Look at them in the admin (Stripe events), mend the cause, replay.",
        )
    if backlog.oldest_seconds > 60:
        return (
            WARNING,
            f"{backlog.waiting} waiting for {backlog.oldest_seconds:.0f} s",
            "See worker.",
        )
    return OK, f"{backlog.waiting} waiting", ""


def _keys() -> Result:
    backlog = key_backlog()
    if backlog.stuck:
        return (
            FAILURE,
            f"{backlog.stuck} parked after repeated failure",
            "The admin (Virtual keys) shows each error; resync when it is mended.",
        )
    if backlog.oldest_seconds > 60:
        return (
            WARNING,
            f"{backlog.waiting} behind for {backlog.oldest_seconds:.0f} s",
            "See worker.",
        )
    return OK, f"{backlog.waiting} behind", ""


def _drift() -> Result:
    drift = drift_now()
    if drift.run is None:
        return WARNING, "never audited", "manage.py audit_keys"
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(drift.counts.items())) or "none"
    remedies = []
    if drift.changed:
        remedies.append("manage.py audit_keys --repair puts right what is ours.")
    if drift.foreign or drift.posing:
        remedies.append(
            "Whose are the keys that we did not make? Vouch for them or remove them: admin, Drift "
            "found; manage.py audit_keys --dry-run lists them, remove_foreign_keys removes."
        )
    return (
        WARNING if remedies else OK,
        f"{told} ({drift.run.finished_at:%Y-%m-%d %H:%M})",
        " ".join(remedies),
    )


def _deploy_settings() -> Result:
    if settings.DEBUG:
        return OK, "not checked: DEBUG is on, this is a local system", ""
    problems = [
        message
        for message in run_checks(include_deployment_checks=True, tags=[Tags.security])
        if message.level >= AT_LEAST_WARNING
    ]
    if problems:
        return (
            FAILURE,
            "; ".join(str(problem.id) for problem in problems),
            "manage.py check --deploy",
        )
    return OK, "as they should be on a server", ""


def _uncommitted_schema() -> Result:
    try:
        with warnings.catch_warnings():
            # Of a database that does not answer, which is a finding of its own.
            warnings.simplefilter("ignore", RuntimeWarning)
            call_command("makemigrations", check=True, dry_run=True, stdout=io.StringIO())
    except SystemExit:
        return FAILURE, "models differ from their migrations", "This build is broken: redeploy."
    return OK, "models and migrations agree", ""


CHECKUPS: dict[str, Callable[[], Result]] = {
    "PostgreSQL": _neighbour("postgres", "Start it, or correct DATABASE_URL."),
    "Migrations": _migrations,
    "Schema": _uncommitted_schema,
    "Redis": _neighbour("redis", "Start it, or correct REDIS_URL."),
    "Worker": _neighbour("worker", "Start Celery workers for the queues default, keys and bulk."),
    "Beat": _neighbour(
        "beat",
        "Start celery beat; without it nothing planned happens. Of one that has just started is "
        "heard as soon as a worker takes its first task.",
    ),
    "Gateway": _neighbour("litellm", "Start LiteLLM with its database, or correct LITELLM_URL."),
    "Master key": _master_keys,
    "Models": _models,
    "Clock": _clock,
    "Stripe key": _stripe_key,
    "Webhook endpoint": _webhook_endpoint,
    "Prices": _prices,
    "Stripe events": _inbox,
    "Firebase": _neighbour("firebase", "Allow the way out to FIREBASE_CERTS_URL."),
    "Encryption keys": _encryption,
    "Key sync": _keys,
    "Drift": _drift,
    "Deploy settings": _deploy_settings,
}

"""Heal what no webhook told us: compare all of Stripe with our rows, and look where time is up."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from plans import inbox, stripe_client
from plans.access import LIVE_STATUSES, TERMINAL_STATUSES
from plans.customers import find_customer
from plans.entitlements import BATCH, refresh_entitlements
from plans.errors import StripeError
from plans.metrics import RECONCILED
from plans.models import (
    BillingReconciliation,
    CurrentEntitlement,
    EventBackfill,
    StripeEvent,
    Subscription,
)
from plans.stripe_reading import Json, object_id
from plans.subscriptions import COMPARED, columns_from, read_back
from tesslate.lib.cause import Cause
from tesslate.lib.redaction import redact

logger = logging.getLogger(__name__)

# Stripe keeps events for 30 days.
BACKFILL_REACH = timedelta(days=29)
# Events are looked for again this long before the newest one we hold: they arrive unordered.
BACKFILL_OVERLAP = timedelta(hours=1)
# So many of a run's findings are kept for staff.
KEPT_LINES = 300
# A subscription whose time is up is asked for again this often until Stripe has moved on.
LOOK_AGAIN_AFTER = timedelta(minutes=10)


@dataclass(slots=True)
class Report:
    """What a reconciliation saw. Numbers of subscriptions, and one line for each difference."""

    seen: int = 0
    agreed: int = 0
    repaired: int = 0
    orphans: int = 0
    failed: int = 0
    entitlements_changed: int = 0
    lines: list[str] = field(default_factory=list)


def reconcile(
    *,
    cause: Cause,
    dry_run: bool = False,
    progress: Callable[[Report], None] | None = None,
    at: datetime | None = None,
) -> Report:
    """Walk all subscriptions at Stripe and all of ours; repair what differs.

    What differs is read again under the customer's lock before it is written, so a comparison
    with a page that grew old does no harm. One that fails, for whatever reason, is reported and
    left for the next run. What was found stays on record; with ``dry_run`` nothing is written. A
    run that breaks off is never recorded as finished. Raises StripeError.
    """
    if dry_run:
        return _walk(Report(), cause, dry_run, progress, at)
    run = BillingReconciliation.objects.create(cause=str(cause)[:100], started_at=timezone.now())
    report = Report()
    try:
        _walk(report, cause, dry_run, progress, at)
        run.finished_at = timezone.now()
    except Exception as error:
        run.error = _told(error)
        raise
    finally:
        _keep(run, report)
    return report


def _told(error: Exception) -> str:
    return (
        str(error) if isinstance(error, StripeError) else redact(f"{type(error).__name__}: {error}")
    )


def _keep(run: BillingReconciliation, report: Report) -> None:
    figures = asdict(report) | {"lines": report.lines[:KEPT_LINES]}
    for name, value in figures.items():
        setattr(run, name, value)
    run.save()


def _walk(
    report: Report,
    cause: Cause,
    dry_run: bool,
    progress: Callable[[Report], None] | None,
    at: datetime | None,
) -> Report:
    seen: set[str] = set()
    for found in stripe_client.connection().subscriptions():
        seen.add(object_id(found))
        with _going_on(object_id(found), report):
            _compare(found, report, cause, dry_run, at)
        if progress is not None:
            progress(report)
    ours = Subscription.objects.exclude(status__in=TERMINAL_STATUSES)
    for missing in ours.values_list("stripe_subscription_id", flat=True):
        if missing in seen:
            continue
        report.seen += 1
        with _going_on(missing, report):
            _repair(missing, "Stripe's list does not have it", report, cause, dry_run, at)
    if not dry_run:
        report.entitlements_changed = _refresh_everyone(cause, at)
    return report


@contextmanager
def _going_on(subscription_id: str, report: Report) -> Iterator[None]:
    """One that cannot be read, or that we cannot make sense of, ends nobody else's comparison."""
    try:
        yield
    except Exception as error:
        report.failed += 1
        report.lines.append(f"{subscription_id}: {_told(error)}")
        RECONCILED.labels("failed").inc()
        if not isinstance(error, StripeError):
            logger.exception("%s could not be compared", subscription_id)


def _refresh_everyone(cause: Cause, at: datetime | None) -> int:
    """In batches with a transaction each, so that nobody's row is locked for long."""
    changed, last = 0, 0
    while True:
        ids = list(
            CurrentEntitlement.objects.filter(user_id__gt=last)
            .order_by("user_id")
            .values_list("user_id", flat=True)[:BATCH]
        )
        if not ids:
            return changed
        changed += len(refresh_entitlements(ids, at=at, cause=cause))
        last = ids[-1]


def _compare(found: Json, report: Report, cause: Cause, dry_run: bool, at: datetime | None) -> None:
    report.seen += 1
    subscription_id = object_id(found)
    row = Subscription.objects.filter(stripe_subscription_id=subscription_id).first()
    if row is None and found.get("status") in TERMINAL_STATUSES and not _is_ours(found):
        report.agreed += 1  # ended before we ever heard of it, and nobody's here
        return
    difference = "we do not have it" if row is None else _difference(found, row, at)
    if not difference:
        report.agreed += 1
        RECONCILED.labels("agreed").inc()
        return
    _repair(subscription_id, difference, report, cause, dry_run, at)


def _is_ours(found: Json) -> bool:
    return find_customer(object_id(found.get("customer"))) is not None


def _difference(found: Json, row: Subscription, at: datetime | None) -> str:
    columns = columns_from(found, row, at or timezone.now())
    differing = [name for name in COMPARED if getattr(row, name) != columns[name]]
    if row.snapshot.get("customer") != object_id(found.get("customer")):
        differing.append("customer")
    return ", ".join(differing)


def _repair(
    subscription_id: str,
    difference: str,
    report: Report,
    cause: Cause,
    dry_run: bool,
    at: datetime | None,
) -> None:
    report.lines.append(f"{subscription_id}: {difference}")
    if dry_run:
        report.repaired += 1
        return
    with transaction.atomic():
        reading = read_back(subscription_id, cause=cause, at=at)
    if reading.outcome == "orphan":
        report.orphans += 1
    else:
        report.repaired += 1
    RECONCILED.labels(reading.outcome).inc()


def read_back_due(*, at: datetime | None = None, limit: int = 100) -> int:
    """Ask Stripe about subscriptions whose period, trial or cancellation date has passed since we
    last looked, so that a lost event costs seconds, not a day. Returns how many were read.

    Where Stripe has not moved on yet, it is asked again after LOOK_AGAIN_AFTER. While Stripe does
    not answer, nobody else is asked for; one that we cannot make sense of is passed over.
    """
    at = at or timezone.now()
    not_lately = Q(read_at__lt=at - LOOK_AGAIN_AFTER)
    due = Q()
    for name in ("current_period_end", "trial_end", "cancel_at"):
        due |= Q(**{f"{name}__lte": at, "read_at__lt": F(name)})
    due |= Q(current_period_end__lte=at) & not_lately
    ids = (
        Subscription.objects.filter(due, status__in=LIVE_STATUSES)
        .order_by("read_at")
        .values_list("stripe_subscription_id", flat=True)[:limit]
    )
    count = 0
    for subscription_id in list(ids):
        try:
            with transaction.atomic():
                read_back(subscription_id, cause=Cause.clock("subscription"), at=at)
        except StripeError as error:
            logger.warning("%s could not be read: %s", subscription_id, error)
            break
        except Exception:
            logger.exception("%s could not be read", subscription_id)
            continue
        count += 1
    return count


def backfill_events(*, at: datetime | None = None) -> EventBackfill:
    """Store the events that Stripe lists and no webhook brought.

    Each run begins where the last successful one ended, less an overlap, so an outage of any
    length up to Stripe's own memory is covered. Raises StripeUnavailable: nothing is marked then.
    """
    at = at or timezone.now()
    earliest = at - BACKFILL_REACH
    last = EventBackfill.objects.order_by("-covered_to").first()
    since = earliest if last is None else max(earliest, last.covered_to - BACKFILL_OVERLAP)
    listed = added = 0
    for event in stripe_client.connection().events(created_from=int(since.timestamp())):
        listed += 1
        if not StripeEvent.objects.filter(event_id=event["id"]).exists():
            added += inbox.store(event, inbox.json_text(event)).is_new
    return EventBackfill.objects.create(
        covered_from=since, covered_to=at, listed=listed, added=added
    )

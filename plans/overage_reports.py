"""Tell Stripe's meter what is to be billed: each unit exactly once.

Stripe takes an identifier once within 24 hours at least. A report whose answer was lost is sent
again under the same identifier for less than that; after it, Stripe's own sum is asked before
anything is sent again, so that a long outage bills nothing twice.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from plans import stripe_client
from plans.errors import StripeError, StripeRejected
from plans.metrics import OVERAGE_UNITS
from plans.models import OverageMeter, OverageReport, OverageWindow
from plans.overage_catalogue import ensure_meter

logger = logging.getLogger(__name__)

State = OverageReport.State
ALREADY_THERE = frozenset({"duplicate_meter_event", "resource_already_exists"})
# Well within the time for which Stripe knows an identifier again.
SAME_AGAIN = timedelta(hours=20)
LEASE = timedelta(minutes=2)
LONGEST_WAIT = timedelta(hours=1)
# Stripe sums by whole days; the summary of a running day lags by minutes.
DAY = timedelta(days=1)


def send_next(*, at: datetime | None = None) -> bool:
    """Send one report that waits; says whether there was one."""
    now = at or timezone.now()
    report = _claim(now)
    if report is None:
        return False
    try:
        if not _arrived_before(report, now):
            _send(report)
    except StripeRejected as error:
        if error.code not in ALREADY_THERE:
            _settle(report, State.REFUSED, now, str(error))
            logger.error("overage report %s was refused: %s", report, error)
            return True
    except StripeError as error:
        wait = min(timedelta(seconds=15) * 2 ** min(report.attempts, 10), LONGEST_WAIT)
        OverageReport.objects.filter(pk=report.pk).update(
            next_attempt_at=now + wait, last_error=str(error)[:500]
        )
        return True
    _settle(report, State.SENT, now, "")
    OVERAGE_UNITS.inc(report.units)
    return True


def _claim(now: datetime) -> OverageReport | None:
    with transaction.atomic():
        report = (
            OverageReport.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(state=State.PENDING, next_attempt_at__lte=now)
            .select_related("window__customer")
            .order_by("next_attempt_at")
            .first()
        )
        if report is not None:
            report.attempts += 1
            report.first_attempt_at = report.first_attempt_at or now
            report.next_attempt_at = now + LEASE
            report.save(update_fields=["attempts", "first_attempt_at", "next_attempt_at"])
    return report


def _send(report: OverageReport) -> None:
    customer = report.window.customer
    stripe_client.connection().create_meter_event(
        identifier=report.identifier,
        event_name=ensure_meter().event_name,
        timestamp=int(report.occurred_at.timestamp()),
        payload={"stripe_customer_id": customer.stripe_customer_id, "value": str(report.units)},
    )


def _arrived_before(report: OverageReport, now: datetime) -> bool:
    """Whether an attempt of long ago had its effect, told by the meter's own sum."""
    if report.attempts == 1 or report.first_attempt_at is None:
        return False
    if now - report.first_attempt_at < SAME_AGAIN:
        return False
    found = compare(report.window, at=now)
    return found.at_stripe >= found.sent + report.units


def _settle(report: OverageReport, state: str, now: datetime, error: str) -> None:
    OverageReport.objects.filter(pk=report.pk).update(
        state=state, sent_at=now if state == State.SENT else None, last_error=error[:500]
    )


# Reconciliation


@dataclass(frozen=True, slots=True)
class Compared:
    """US cents in the days of a window: by the meter, and by our reports that were sent."""

    at_stripe: int
    sent: int

    @property
    def difference(self) -> int:
        return self.at_stripe - self.sent


def compare(window: OverageWindow, *, at: datetime | None = None) -> Compared:
    """Raises StripeError. All windows of the customer in those days count together, as the meter
    knows customers alone."""
    now = at or timezone.now()
    start = window.period_start.replace(hour=0, minute=0, second=0, microsecond=0)
    end = (max(window.period_end, now) + DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    meter = OverageMeter.objects.first()
    at_stripe = 0
    if meter is not None and window.customer.stripe_customer_id:
        at_stripe = sum(
            int(summary.get("aggregated_value") or 0)
            for summary in stripe_client.connection().meter_summaries(
                meter.stripe_meter_id,
                customer=window.customer.stripe_customer_id,
                start=int(start.timestamp()),
                end=int(end.timestamp()),
            )
        )
    sent = OverageReport.objects.filter(
        window__customer=window.customer,
        state=State.SENT,
        occurred_at__gte=start,
        occurred_at__lt=end,
    ).aggregate(units=Sum("units"))["units"]
    return Compared(at_stripe, sent or 0)

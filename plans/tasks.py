"""Celery's entrances. Each finds its work in the database, so a lost message loses nothing."""

import time
from collections.abc import Callable
from datetime import timedelta

from celery import shared_task
from django.conf import settings

from plans import erasure, inbox, notices, overage_reports, revenue
from plans.entitlements import BATCH, refresh_due
from plans.overage_audit import audit_overage
from plans.reconciliation import backfill_events, read_back_due, reconcile
from plans.revenue_audit import audit_revenue
from tesslate.lib.cause import Cause

# A task gives way after this long, so that others in its queue have their turn.
SHARE_SECONDS = 20.0


def _while_there_is_work(step: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + SHARE_SECONDS
    while time.monotonic() < ends_at and step():
        pass


@shared_task(name="plans.process_events")
def process_events() -> None:
    _while_there_is_work(inbox.process_next_event)


@shared_task(name="plans.release_events")
def release_events() -> None:
    inbox.release_readable()


@shared_task(name="plans.refresh_due")
def refresh_due_entitlements() -> None:
    read_back_due()
    _while_there_is_work(lambda: refresh_due() == BATCH)


@shared_task(name="plans.send_notices")
def send_notices() -> None:
    _while_there_is_work(notices.send_next_notice)


@shared_task(name="plans.backfill_events")
def backfill() -> None:
    backfill_events()


@shared_task(name="plans.reconcile")
def reconcile_daily() -> None:
    reconcile(cause=Cause.system("reconcile"))


@shared_task(name="plans.read_revenue")
def read_revenue() -> None:
    revenue.note_unsettled()
    _while_there_is_work(revenue.read_next)


@shared_task(name="plans.report_overage")
def report_overage() -> None:
    _while_there_is_work(overage_reports.send_next)


@shared_task(name="plans.audit_overage")
def audit_overage_daily() -> None:
    audit_overage()


@shared_task(name="plans.audit_revenue")
def audit_revenue_daily() -> None:
    audit_revenue()


@shared_task(name="plans.reconcile_now")
def reconcile_now(staff_id: int) -> None:
    reconcile(cause=Cause.staff(staff_id, "reconcile"))


@shared_task(name="plans.erase_closed")
def erase_closed() -> None:
    _while_there_is_work(erasure.erase_next)
    erasure.forget_late_events()


@shared_task(name="plans.prune_payloads")
def prune_payloads() -> None:
    inbox.prune_payloads(older_than=timedelta(days=settings.STRIPE_PAYLOAD_DAYS))

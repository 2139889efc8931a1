"""When planned work runs. Everything here is also safe to run at any other time."""

from celery.schedules import crontab

BEAT_SCHEDULE = {
    # Events whose wake-up was lost, or whose retry is due.
    "plans.process_events": {
        "task": "plans.process_events",
        "schedule": 5.0,
        "options": {"expires": 10},
    },
    # Trials, grace, grants and cancellations that end by themselves.
    "plans.refresh_due": {
        "task": "plans.refresh_due",
        "schedule": 15.0,
        "options": {"expires": 30},
    },
    "plans.send_notices": {
        "task": "plans.send_notices",
        "schedule": 30.0,
        "options": {"expires": 60},
    },
    "plans.release_events": {"task": "plans.release_events", "schedule": crontab(minute=7)},
    # Events that no webhook brought.
    "plans.backfill_events": {
        "task": "plans.backfill_events",
        "schedule": crontab(minute="*/30"),
        "options": {"queue": "bulk"},
    },
    "plans.erase_closed": {
        "task": "plans.erase_closed",
        "schedule": crontab(minute="*/10"),
        "options": {"queue": "bulk", "expires": 600},
    },
    "plans.reconcile": {
        "task": "plans.reconcile",
        "schedule": crontab(hour=3, minute=17),
        "options": {"queue": "bulk"},
    },
    # Invoices that an event said to look at, and those whose fees are not settled.
    "plans.read_revenue": {
        "task": "plans.read_revenue",
        "schedule": 30.0,
        "options": {"queue": "bulk", "expires": 30},
    },
    "plans.report_overage": {
        "task": "plans.report_overage",
        "schedule": 60.0,
        "options": {"queue": "bulk", "expires": 60},
    },
    "plans.audit_overage": {
        "task": "plans.audit_overage",
        "schedule": crontab(hour=4, minute=7),
        "options": {"queue": "bulk"},
    },
    "plans.audit_revenue": {
        "task": "plans.audit_revenue",
        "schedule": crontab(hour=3, minute=47),
        "options": {"queue": "bulk"},
    },
    "plans.prune_payloads": {
        "task": "plans.prune_payloads",
        "schedule": crontab(hour=4, minute=29),
        "options": {"queue": "bulk"},
    },
}

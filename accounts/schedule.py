"""When planned work runs. Everything here is also safe to run at any other time."""

from celery.schedules import crontab

BEAT_SCHEDULE = {
    "accounts.erase_identities": {
        "task": "accounts.erase_identities",
        "schedule": crontab(minute="*/10"),
        "options": {"queue": "bulk", "expires": 600},
    },
}

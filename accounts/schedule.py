"""When planned work runs. Everything here is also safe to run at any other time."""

from celery.schedules import crontab

BEAT_SCHEDULE = {
    "accounts.erase_identities": {
        "task": "accounts.erase_identities",
        "schedule": crontab(minute="*/10"),
        "options": {"queue": "bulk", "expires": 600},
    },
    # Sessions that ended by themselves say where somebody was.
    "accounts.clear_sessions": {
        "task": "accounts.clear_sessions",
        "schedule": crontab(hour=4, minute=41),
        "options": {"queue": "bulk"},
    },
    "accounts.forget_invitations": {
        "task": "accounts.forget_invitations",
        "schedule": crontab(hour=4, minute=43),
        "options": {"queue": "bulk"},
    },
}

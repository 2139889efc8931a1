"""When planned work runs. Everything here is also safe to run at any other time."""

from celery.schedules import crontab

BEAT_SCHEDULE = {
    "chatproxy.make_partitions": {
        "task": "chatproxy.make_partitions",
        "schedule": crontab(minute=11, hour="*/6"),
        "options": {"queue": "bulk"},
    },
    # The gateway writes its log every 10 to 15 seconds.
    "chatproxy.import_usage": {
        "task": "chatproxy.import_usage",
        "schedule": 30.0,
        "options": {"queue": "bulk", "expires": 30},
    },
    "chatproxy.check_usage": {
        "task": "chatproxy.check_usage",
        "schedule": crontab(minute="*/10"),
        "options": {"queue": "bulk", "expires": 600},
    },
    "chatproxy.guard_spend": {
        "task": "chatproxy.guard_spend",
        "schedule": 60.0,
        "options": {"queue": "bulk", "expires": 60},
    },
    "chatproxy.drop_old": {
        "task": "chatproxy.drop_old",
        "schedule": crontab(minute=41, hour=4),
        "options": {"queue": "bulk"},
    },
}

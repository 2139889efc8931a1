"""What beat does for the staff's pages."""

BEAT_SCHEDULE = {
    "roll-up-traffic": {
        "task": "staffroom.roll_up_traffic",
        "schedule": 60.0,
        "options": {"queue": "bulk", "expires": 60},
    },
}

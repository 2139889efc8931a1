"""What beat does for the staff's pages."""

BEAT_SCHEDULE = {
    "roll-up-traffic": {
        "task": "staffroom.roll_up_traffic",
        "schedule": 60.0,
        "options": {"queue": "bulk", "expires": 60},
    },
    # Jobs wake a worker themselves; this picks up one whose wake-up, or whose worker, was lost.
    "staff-jobs": {
        "task": "staffroom.run_jobs",
        "schedule": 15.0,
        "options": {"queue": "bulk", "expires": 15},
    },
    "remove-old-exports": {
        "task": "staffroom.remove_old_output",
        "schedule": 3600.0,
        "options": {"queue": "bulk", "expires": 3600},
    },
}

TASK_ROUTES = {"staffroom.run_jobs": {"queue": "bulk"}}

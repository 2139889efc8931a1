"""What beat starts for this app."""

from datetime import timedelta
from typing import Any

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "llmkeys-sweep": {
        "task": "llmkeys.tasks.sweep",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 5},
    },
    # Rollouts wake themselves; this picks up one whose wake-up was lost.
    "llmkeys-rollouts": {
        "task": "llmkeys.tasks.advance_rollouts",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "llmkeys-audit": {
        "task": "llmkeys.tasks.audit_keys",
        "schedule": timedelta(hours=1),
        "options": {"expires": 3600},
    },
}

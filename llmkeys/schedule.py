"""What beat starts for this app."""

from datetime import timedelta
from typing import Any

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "llmkeys-sweep": {
        "task": "llmkeys.tasks.sweep",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 5},
    },
}

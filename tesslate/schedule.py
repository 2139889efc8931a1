"""What beat starts: every app's planned work in one place."""

from typing import Any

from llmkeys.schedule import BEAT_SCHEDULE as KEYS
from plans.schedule import BEAT_SCHEDULE as PLANS
from tesslate.heartbeat import SCHEDULE_SECONDS
from tesslate.staffroom.schedule import BEAT_SCHEDULE as STAFFROOM

HOUSE = {
    "heartbeat": {"task": "tesslate.tasks.beat", "schedule": SCHEDULE_SECONDS},
}

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {**HOUSE, **PLANS, **KEYS, **STAFFROOM}

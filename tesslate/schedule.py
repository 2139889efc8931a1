"""What beat starts, and which queue tasks wait in: every app's planned work in one place."""

from typing import Any

from accounts.schedule import BEAT_SCHEDULE as ACCOUNTS
from chatproxy.schedule import BEAT_SCHEDULE as CHAT
from llmkeys.schedule import BEAT_SCHEDULE as KEYS
from llmkeys.schedule import TASK_ROUTES as KEY_ROUTES
from plans.schedule import BEAT_SCHEDULE as PLANS
from tesslate.heartbeat import SCHEDULE_SECONDS
from tesslate.staffroom.schedule import BEAT_SCHEDULE as STAFFROOM
from tesslate.staffroom.schedule import TASK_ROUTES as STAFFROOM_ROUTES

HOUSE = {
    "heartbeat": {"task": "tesslate.tasks.beat", "schedule": SCHEDULE_SECONDS},
}

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    **HOUSE,
    **ACCOUNTS,
    **PLANS,
    **KEYS,
    **CHAT,
    **STAFFROOM,
}
# Whatever is not named waits in the default queue.
TASK_ROUTES: dict[str, dict[str, str]] = {**KEY_ROUTES, **STAFFROOM_ROUTES}

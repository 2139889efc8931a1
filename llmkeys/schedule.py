"""What beat starts for this app, and which queue its tasks wait in."""

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
    "llmkeys-convergence": {
        "task": "llmkeys.tasks.check_convergence",
        "schedule": timedelta(hours=6),
        "options": {"expires": 3600},
    },
    "llmkeys-budget-notices": {
        "task": "llmkeys.tasks.send_budget_notices",
        "schedule": timedelta(seconds=30),
        "options": {"expires": 30},
    },
    # Budgets and overage as a whole; what changed is looked at with each import of usage.
    "llmkeys-spending": {
        "task": "llmkeys.tasks.check_spending",
        "schedule": timedelta(hours=1),
        "options": {"expires": 3600},
    },
    "llmkeys-audit": {
        "task": "llmkeys.tasks.audit_keys",
        "schedule": timedelta(hours=1),
        "options": {"expires": 3600},
    },
}

# A change that somebody waits for never queues behind work on everybody's keys.
TASK_ROUTES: dict[str, dict[str, str]] = {
    "llmkeys.tasks.sync_keys": {"queue": "keys"},
    "llmkeys.tasks.sync_plans": {"queue": "keys"},
    "llmkeys.tasks.sweep": {"queue": "keys"},
    "llmkeys.tasks.drain": {"queue": "bulk"},
    "llmkeys.tasks.advance_rollouts": {"queue": "bulk"},
    "llmkeys.tasks.audit_keys": {"queue": "bulk"},
    "llmkeys.tasks.send_budget_notices": {"queue": "bulk"},
    "llmkeys.tasks.check_convergence": {"queue": "bulk"},
    "llmkeys.tasks.check_spending": {"queue": "bulk"},
}

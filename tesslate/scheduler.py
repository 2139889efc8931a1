"""Beat's scheduler (CELERY_BEAT_SCHEDULER)."""

from typing import Any

from celery.beat import PersistentScheduler

from tesslate.heartbeat import note_movement

# A planned task may be an hour away; whoever watches wants to see movement before that.
LONGEST_SLEEP_SECONDS = 10.0


class Scheduler(PersistentScheduler):
    """Celery's own, which also shows that it still comes round (see tesslate.exporter)."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        note_movement()
        return min(super().tick(*args, **kwargs), LONGEST_SLEEP_SECONDS)

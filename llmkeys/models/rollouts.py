"""Plan edits on their way to the gateway."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import User
from plans.models import Plan


class Rollout(models.Model):
    """One edit of a plan. What keys share follows at once; the keys themselves, where each carries
    something that changed, follow in batches by id, which can be paused and undone."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        DONE = "done", "Done"
        CANCELLED = "cancelled", "Cancelled"
        ROLLED_BACK = "rolled_back", "Rolled back"
        # A later edit of the same plan took over.
        SUPERSEDED = "superseded", "Superseded"

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="rollouts")
    state = models.CharField(max_length=12, choices=State, default=State.RUNNING)
    # The plan's edited fields, and ids of models under "gateway_models", on either side.
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    # The edit that this one takes back.
    undoes = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="undone_by"
    )
    # Keys that must change, how many have been handed to the workers, and up to which id.
    total = models.PositiveIntegerField(default=0)
    handed_over = models.PositiveIntegerField(default=0)
    cursor = models.BigIntegerField(default=0)
    started_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["plan"],
                condition=Q(state__in=["running", "paused"]),
                name="rollout_one_under_way_per_plan",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan}: {', '.join(self.after)} ({self.get_state_display()})"

    @property
    def is_under_way(self) -> bool:
        return self.state in (self.State.RUNNING, self.State.PAUSED)

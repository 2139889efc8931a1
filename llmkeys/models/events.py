"""The trail: what was sent to the gateway for a key, why, and what came back."""

from django.db import models
from django.utils import timezone

from llmkeys.models.keys import VirtualKey
from plans.models import Plan


class KeyEvent(models.Model):
    """One thing that happened to a key, or to what a plan's keys share. Never changed.

    ``sent`` and ``received`` hold fields of llmkeys.spec only, so that no secret can get in, and
    name the customer by number (llmkeys.spec.PERSONAL is left out).
    """

    class Outcome(models.TextChoices):
        DONE = "done", "Done"
        REFUSED = "refused", "Refused"
        UNKNOWN = "unknown", "Unknown"
        NOTED = "noted", "Noted"

    at = models.DateTimeField(default=timezone.now)
    key = models.ForeignKey(
        VirtualKey, on_delete=models.PROTECT, null=True, blank=True, related_name="events"
    )
    plan = models.ForeignKey(
        Plan, on_delete=models.PROTECT, null=True, blank=True, related_name="gateway_events"
    )
    # "created", "updated", "deleted", "found", "failed", "enforced", "drift", "marked" …
    action = models.CharField(max_length=30)
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.DONE)
    generation = models.PositiveBigIntegerField(null=True, blank=True)
    sent = models.JSONField(null=True, blank=True)
    received = models.JSONField(null=True, blank=True)
    message = models.CharField(max_length=500, blank=True)
    cause_kind = models.CharField(max_length=10, blank=True)
    cause_reference = models.CharField(max_length=255, blank=True)
    cause_actor_id = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["key", "-id"], name="key_event_by_key"),
            models.Index(fields=["plan", "-id"], name="key_event_by_plan"),
            models.Index(fields=["at"], name="key_event_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.action} ({self.outcome}) {self.key or self.plan or ''}".strip()

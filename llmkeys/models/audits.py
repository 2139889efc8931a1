"""What audits of the gateway found."""

from django.db import models
from django.utils import timezone

from llmkeys.models.keys import VirtualKey


class AuditRun(models.Model):
    """One walk through all keys that the gateway holds."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        FINISHED = "finished", "Finished"
        # Ended before the last page: what it did not see it says nothing about.
        INTERRUPTED = "interrupted", "Interrupted"

    state = models.CharField(max_length=12, choices=State, default=State.RUNNING)
    repairs = models.BooleanField(default=True)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    next_page = models.PositiveIntegerField(default=1)
    # Keys seen, by class (llmkeys.audit.Finding).
    counts = models.JSONField(default=dict)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Audit of {self.started_at:%Y-%m-%d %H:%M} ({self.state})"


class AuditFinding(models.Model):
    """One key, or shared object, that was not as it should be."""

    run = models.ForeignKey(AuditRun, on_delete=models.CASCADE, related_name="findings")
    kind = models.CharField(max_length=12)
    key = models.ForeignKey(
        VirtualKey, on_delete=models.PROTECT, null=True, blank=True, related_name="findings"
    )
    # The gateway's names for what is not ours, or not a key.
    gateway_id = models.CharField(max_length=255, blank=True)
    alias = models.CharField(max_length=255, blank=True)
    # For each field that differs: [ours, the gateway's].
    fields = models.JSONField(default=dict, blank=True)
    repaired = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["run", "kind"], name="finding_by_run")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.key or self.alias or self.gateway_id}"

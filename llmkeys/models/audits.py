"""What audits of the gateway found."""

from django.db import models
from django.utils import timezone

from accounts.models import User
from llmkeys.models.keys import VirtualKey

# The SHA-256 by which the gateway names a key, and what is enough of it to tell keys apart.
HASH_LENGTH = 64
SHOWN_OF_HASH = 12


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
    # For each field that differs: [ours, the gateway's]. Of a key that we did not make: what it may
    # do, with nothing on our side.
    fields = models.JSONField(default=dict, blank=True)
    repaired = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["run", "kind"], name="finding_by_run")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.called}"

    @property
    def called(self) -> str:
        """Whose key it is, or what names it at the gateway: an alias alone is anybody's to take."""
        if not self.gateway_id:
            return str(self.key or self.alias)
        short = f"{self.gateway_id[:SHOWN_OF_HASH]}…" if self.is_hash else self.gateway_id
        return f"{self.alias} ({short})" if self.alias else short

    @property
    def is_hash(self) -> bool:
        return len(self.gateway_id) == HASH_LENGTH


class TrustedKey(models.Model):
    """A key at the gateway that is not ours, for which staff vouch: another system made it.

    Named by its hash, as an alias is free for anybody to take.
    """

    key_hash = models.CharField(max_length=255, unique=True)
    alias = models.CharField(max_length=255, blank=True)
    reason = models.CharField(max_length=500)
    trusted_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    trusted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.alias or self.key_hash

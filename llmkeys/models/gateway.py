"""The gateway's own health, as all workers together see it."""

from django.db import models
from django.db.models import Q


class GatewayState(models.Model):
    """The circuit breaker for one gateway address, shared by all workers.

    While it is open no key is touched and none counts a failure: one alarm instead of one error
    per key. From ``retry_at`` on a single probe call decides whether it closes.
    """

    class Reason(models.TextChoices):
        UNREACHABLE = "unreachable", "Cannot be reached"
        MASTER_KEY = "master_key", "Refuses our master key"

    url = models.CharField(max_length=500, unique=True)
    # Set while what we remember of keys is about this gateway (llmkeys.addresses).
    in_use_since = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=20, choices=Reason, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)
    # How often it has opened in a row, for the wait until the next probe.
    openings = models.PositiveIntegerField(default=0)
    # When everything was last compared and found equal (llmkeys.converge).
    converged_at = models.DateTimeField(null=True, blank=True)
    # The last comparison, equal or not: [stage, looked at, differing] in order, and examples.
    compared_at = models.DateTimeField(null=True, blank=True)
    comparison = models.JSONField(default=list, blank=True)
    differences = models.JSONField(default=list, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                models.Value(1),
                condition=Q(in_use_since__isnull=False),
                name="gateway_one_in_use",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.url} ({self.reason or 'in use'})"

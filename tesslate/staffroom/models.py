"""What staff write down for each other."""

from django.db import models
from django.utils import timezone

from accounts.models import User


class CustomerNote(models.Model):
    """What one member of staff wants the next one to know about a customer. Never edited."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="notes")
    author = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    text = models.TextField(max_length=5000)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.user}, {self.created_at:%Y-%m-%d}"


class HourlyTraffic(models.Model):
    """The ledger by hour, model and plan: what the front page adds up instead of the ledger.

    Written by tesslate.staffroom.traffic alone, which counts the last hours anew each time:
    rows of the ledger may arrive late.
    """

    hour = models.DateTimeField()
    model = models.CharField(max_length=200)
    plan_code = models.CharField(max_length=50)
    requests = models.PositiveIntegerField()
    # Failed or broken off; refusals are no errors.
    errors = models.PositiveIntegerField()
    refused = models.PositiveIntegerField()
    abandoned = models.PositiveIntegerField()
    prompt_tokens = models.PositiveBigIntegerField()
    completion_tokens = models.PositiveBigIntegerField()
    cost = models.DecimalField(max_digits=18, decimal_places=10)
    # Milliseconds to the first byte; null while nothing was answered.
    ttfb_p50_ms = models.PositiveIntegerField(null=True)
    ttfb_p95_ms = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hour", "model", "plan_code"], name="traffic_once"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.model} {self.plan_code}"

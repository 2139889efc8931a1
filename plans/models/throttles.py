"""Shares of a plan's limits, set while something about a user's spending is unclear."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import User


class Throttle(models.Model):
    """A user's limits lowered to a share until a moment, or until somebody who may lifts it.

    It lowers rates, never the plan: whoever pays keeps what they pay for, more slowly.
    """

    class Answer(models.TextChoices):
        OPEN = "", "None yet"
        MINE = "mine", "It was me"
        NOT_MINE = "not_mine", "It was not me"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="throttles")
    # Percent of the plan's limits.
    percent = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(99)]
    )
    reason = models.CharField(max_length=500)
    # What was seen, as data: so that the decision can be checked later.
    evidence = models.JSONField(default=dict)
    begun_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    # The user's word, from the link in the mail.
    answer = models.CharField(max_length=10, choices=Answer, blank=True, default=Answer.OPEN)
    answered_at = models.DateTimeField(null=True, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # When the mail server took the message; empty while it has not.
    told_at = models.DateTimeField(null=True, blank=True)
    tell_attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    tell_next_at = models.DateTimeField(default=timezone.now, db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(lifted_at=None), name="throttle_one_open_per_user"
            ),
            models.CheckConstraint(
                condition=Q(percent__gte=1, percent__lte=99), name="throttle_is_a_share"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} at {self.percent} % of their limits"

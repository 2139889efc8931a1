"""Budgets that customers set themselves, and what they were told about them."""

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Organization, User


class SpendBudget(models.Model):
    """What a user, or an organization for all its seats, wants to spend a period, in US dollars.

    A soft budget only tells; a hard one stops use at the gateway when it is reached.
    """

    user = models.OneToOneField(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="spend_budget"
    )
    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="spend_budget"
    )
    amount = models.DecimalField(max_digits=12, decimal_places=2, validators=[MinValueValidator(0)])
    is_hard = models.BooleanField("hard", default=False)
    webhook_url = models.URLField(max_length=500, blank=True)
    # tesslate.lib.crypto; signs what is sent to the webhook. Shown once.
    webhook_secret = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    # When llmkeys.spend_budgets looks at it next: at once where usage, entitlement or the budget
    # itself changed, else when the window ends.
    due_at = models.DateTimeField(default=timezone.now, db_default=Now(), db_index=True)
    # End of the window for which the last look found it used up; null where there is some left.
    used_up_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False) ^ Q(organization__isnull=False),
                name="budget_is_of_a_user_or_an_organization",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.organization}: ${self.amount}"


class BudgetNotice(models.Model):
    """Somebody is told, once by each channel, that a share of a budget is used up."""

    class Channel(models.TextChoices):
        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook"

    budget = models.ForeignKey(SpendBudget, on_delete=models.CASCADE, related_name="notices")
    window_start = models.DateTimeField()
    percent = models.PositiveSmallIntegerField()
    channel = models.CharField(max_length=10, choices=Channel)
    # US dollars, when the share was reached.
    spent = models.DecimalField(max_digits=18, decimal_places=10)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["budget", "window_start", "percent", "amount", "channel"],
                name="budget_notice_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(sent_at=None), name="budget_notice_due"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.budget} by {self.channel}"


class SpendLimit(models.Model):
    """The most that a user's keys may have spent in their window because of hard budgets."""

    user = models.OneToOneField(
        User, on_delete=models.CASCADE, primary_key=True, related_name="spend_limit"
    )
    # US dollars; 0 while an organization's budget is used up.
    limit = models.DecimalField(max_digits=12, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.user}: ${self.limit}"

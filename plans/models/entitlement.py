"""The last answer to "what may this user have?", kept so that it can be seen, listed and timed."""

from django.db import models

from accounts.models import User
from plans.models.catalogue import Plan


class CurrentEntitlement(models.Model):
    """What plans.entitlements.entitlement_for last said of a user.

    Keys follow this row: whatever changes it raises ``version`` in the same transaction. It can
    always be computed again from the rows it came from; the sweep does so at ``changes_at``.
    """

    class Source(models.TextChoices):
        DEFAULT = "default", "Default plan"
        SUBSCRIPTION = "subscription", "Own subscription"
        ORGANIZATION = "organization", "Organization"
        GRANT = "grant", "Staff grant"

    user = models.OneToOneField(
        User, on_delete=models.CASCADE, primary_key=True, related_name="current_entitlement"
    )
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="entitlements")
    source = models.CharField(max_length=20, choices=Source)
    # The row behind the source: subscription, membership or grant id.
    source_id = models.BigIntegerField(null=True, blank=True)
    # Share of the plan's limits, percent: less than 100 only during throttled grace.
    limit_percent = models.PositiveSmallIntegerField(default=100)
    # What may be spent at the gateway beyond the plan's budget, US cents (plans.overage).
    overage_cents = models.PositiveIntegerField(default=0)
    # The budget window: Stripe's billing period, or months since joining on the default plan.
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    # End of grace, while a payment is overdue.
    grace_ends_at = models.DateTimeField(null=True, blank=True)
    # When the answer changes by itself (period, trial, grace or grant ends).
    changes_at = models.DateTimeField(null=True, blank=True, db_index=True)
    # The chain of facts, in order, as data: see plans.entitlements.Reason.
    reasons = models.JSONField(default=list)
    version = models.PositiveBigIntegerField(default=1)
    decided_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["plan", "source"], name="entitlement_by_plan")]

    def __str__(self) -> str:
        return f"{self.user}: {self.plan} ({self.source})"

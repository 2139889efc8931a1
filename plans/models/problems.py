"""What staff have to look at, and what customers were told."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from plans.models.subscriptions import Customer


class BillingProblem(models.Model):
    """Something that only a person can put right. Kept open until it is resolved.

    Problems that our own rows show (unmapped prices, dead letters, events of the other mode) are
    not stored here but read from those rows: see plans.problems.
    """

    class Kind(models.TextChoices):
        ORPHAN_SUBSCRIPTION = "orphan_subscription", "Subscription without an owner"
        CUSTOMER_CLAIMED_TWICE = "customer_claimed_twice", "Stripe customer claimed by two"
        DUPLICATE_CUSTOMER = "duplicate_customer", "Two Stripe customers for one payer"
        FINALIZATION_FAILED = "finalization_failed", "Invoice cannot be finalized"
        REFUND_FAILED = "refund_failed", "Refund did not arrive"
        UNCOLLECTIBLE = "uncollectible", "Invoice given up as uncollectible"
        DISPUTE = "dispute", "Dispute"
        FRAUD_WARNING = "fraud_warning", "Fraud warning"
        OVERAGE_DIFFERS = "overage_differs", "Stripe's meter and our reports differ"
        ERASURE_REFUSED = "erasure_refused", "Closed account not erased at Stripe"
        CATALOGUE_CHANGED = "catalogue_changed", "Price or product changed at Stripe"

    kind = models.CharField(max_length=40, choices=Kind)
    # What it is about: an id at Stripe.
    subject = models.CharField(max_length=255)
    summary = models.CharField(max_length=500)
    customer = models.ForeignKey(
        Customer, on_delete=models.SET_NULL, null=True, blank=True, related_name="problems"
    )
    # Times seen since it was opened.
    occurrences = models.PositiveIntegerField(default=1)
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-last_seen_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=Q(resolved_at=None),
                name="problem_open_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.subject}"


class BillingNotice(models.Model):
    """A mail to a payer, written with the change that calls for it and sent after the commit.

    One row for each kind and subject: however often an event is delivered or replayed, the
    customer hears of it once.
    """

    class Kind(models.TextChoices):
        TRIAL_ENDING = "trial_ending", "Trial ends soon"
        PAYMENT_FAILED = "payment_failed", "Payment failed, grace runs"
        ACTION_REQUIRED = "action_required", "Payment needs confirmation"
        CHECKOUT_FAILED = "checkout_failed", "Delayed payment failed"

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=20, choices=Kind)
    # What makes it one: an invoice, a subscription's trial, a session.
    subject = models.CharField(max_length=255)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject"], name="notice_once"),
        ]
        indexes = [
            models.Index(fields=["id"], condition=Q(sent_at=None), name="notice_unsent"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.subject}"

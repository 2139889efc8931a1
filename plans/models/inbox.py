"""Stripe's events, stored before anything is made of them, and what heals lost ones."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone


class StripeEvent(models.Model):
    """One event as received. The row is the queue; a message to the worker only wakes it."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        PROCESSED = "processed", "Processed"
        # Nothing to do, and `outcome` says why: type, mode, stale.
        IGNORED = "ignored", "Ignored"
        # Waiting for a person or an upgrade: version, unmapped price, orphan customer.
        QUARANTINED = "quarantined", "Quarantined"
        # Failed as often as allowed. Replay it once the cause is mended.
        DEAD = "dead", "Dead letter"

    event_id = models.CharField(max_length=255, unique=True)
    type = models.CharField(max_length=100)
    api_version = models.CharField(max_length=50, blank=True)
    livemode = models.BooleanField()
    # Stripe's clock, whole seconds: for people. No decision rests on it.
    created_at = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)
    # `data.object`: what it was about.
    object_type = models.CharField(max_length=100, blank=True)
    object_id = models.CharField(max_length=255, blank=True, db_index=True)
    stripe_customer_id = models.CharField(max_length=255, blank=True, db_index=True)
    # As received. Personal data: only for those permitted, pruned after a while (then null).
    payload = models.JSONField(null=True)
    state = models.CharField(max_length=20, choices=State, default=State.PENDING)
    # What came of it, stable words: "subscription.updated", "ignored:type", "quarantined:version".
    outcome = models.CharField(max_length=100, blank=True)
    # Every time a worker took it up, however that ended.
    attempts = models.PositiveSmallIntegerField(default=0)
    # Of these, the ones that were our own fault: an error, or a worker that never came back.
    # Stripe's bad days do not count.
    failures = models.PositiveSmallIntegerField(default=0, db_default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    # A worker has it until then.
    claimed_until = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    processed_at = models.DateTimeField(null=True, blank=True)
    # Deliveries of this id seen, redeliveries included.
    deliveries = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["-received_at", "-id"]
        verbose_name = "Stripe event"
        permissions = [("view_personal_data", "Can see personal data in events")]
        indexes = [
            # In the queue's whole order: a worker takes the first entry and reads no further,
            # however many events have left the queue since its entries were last cleared away.
            models.Index(
                fields=["next_attempt_at", "id"],
                condition=Q(state="pending"),
                name="stripe_event_queue",
            ),
            models.Index(
                fields=["stripe_customer_id"],
                condition=Q(state="pending"),
                name="stripe_event_waiting",
            ),
            models.Index(fields=["-received_at"], name="stripe_event_newest"),
            models.Index(fields=["state", "-received_at"], name="stripe_event_by_state"),
        ]

    # What a page may show of the payload, set for the person who looks.
    shown_payload: Any = None
    # Its list's customers by their ids at Stripe, set by the list.
    shown_customers: Any = None

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"


class EventBackfill(models.Model):
    """One look through Stripe's own list of events. The next begins where the last one ended."""

    covered_from = models.DateTimeField()
    covered_to = models.DateTimeField()
    listed = models.PositiveIntegerField()
    # Events that no webhook had brought.
    added = models.PositiveIntegerField()
    finished_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-covered_to"]

    def __str__(self) -> str:
        return f"until {self.covered_to:%Y-%m-%d %H:%M}: {self.added} of {self.listed}"


class BillingReconciliation(models.Model):
    """One comparison of all subscriptions at Stripe with ours, and what it repaired."""

    cause = models.CharField(max_length=100)
    started_at = models.DateTimeField(default=timezone.now)
    # Empty while it runs, and for good if it could not finish.
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    seen = models.PositiveIntegerField(default=0)
    agreed = models.PositiveIntegerField(default=0)
    repaired = models.PositiveIntegerField(default=0)
    # Subscriptions whose payer is nobody here.
    orphans = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    entitlements_changed = models.PositiveIntegerField(default=0)
    # One line for each difference, the first few hundred.
    lines = models.JSONField(default=list)

    class Meta:
        ordering = ["-started_at"]
        verbose_name = "reconciliation with Stripe"
        verbose_name_plural = "reconciliations with Stripe"

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {self.repaired} of {self.seen} repaired"

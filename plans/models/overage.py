"""Paid usage beyond what a plan includes, and what of it Stripe has been told."""

from decimal import Decimal

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import User
from plans.models.subscriptions import Customer


class OverageMeter(models.Model):
    """Stripe's meter and the metered price by which overage is billed: one unit is one US cent."""

    event_name = models.CharField(max_length=100, unique=True)
    stripe_meter_id = models.CharField(max_length=255)
    stripe_price_id = models.CharField(max_length=255)

    def __str__(self) -> str:
        return self.event_name


class OverageTerms(models.Model):
    """What is included by a plan, what is asked beyond it, and what was used on it."""

    plan_code = models.CharField("plan", max_length=50)
    # US cents at the gateway: what the plan includes, and the most that may come on top.
    included_cents = models.PositiveIntegerField()
    allowance_cents = models.PositiveIntegerField()
    markup_percent = models.PositiveSmallIntegerField(default=0)
    # US dollars at the gateway, less what staff credited; may go down when they do.
    used = models.DecimalField(max_digits=18, decimal_places=10, default=0)

    class Meta:
        abstract = True


class OverageWindow(OverageTerms):
    """One user's billing period in which they may go beyond what is included.

    The terms are those of the plan's first day in it that we saw; the customer may change the cap,
    and a plan that includes more does so at once. ``used`` is on the present plan.
    """

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="overage_windows")
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="overage_windows")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    # US cents that reports exist for. Never goes down: Stripe's meters only add.
    units_reported = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    # Since when usage may have changed what is used; null once that was looked at.
    due_at = models.DateTimeField(null=True, blank=True, default=timezone.now)

    class Meta:
        ordering = ["-period_start", "-id"]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(due_at__isnull=False), name="overage_window_due"
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "customer", "period_start"], name="overage_window_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} from {self.period_start:%Y-%m-%d}"

    @property
    def used_in_period(self) -> Decimal:
        """US dollars, on every plan of the period. Reads ``earlier``."""
        return sum((terms.used for terms in self.earlier.all()), self.used)


class EarlierOverageTerms(OverageTerms):
    """Of a plan that was held before the present one in the same period."""

    window = models.ForeignKey(OverageWindow, on_delete=models.CASCADE, related_name="earlier")
    ended_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "earlier overage terms"

    def __str__(self) -> str:
        return f"{self.plan_code} until {self.ended_at:%Y-%m-%d %H:%M}"


class OverageReport(models.Model):
    """Units that Stripe's meter is told of, once: the identifier names the units, not the attempt.

    Reports of a window follow each other without gap or overlap.
    """

    class State(models.TextChoices):
        PENDING = "pending", "To be sent"
        SENT = "sent", "Sent"
        # Stripe will not take it as it is; a person has to look.
        REFUSED = "refused", "Refused by Stripe"

    window = models.ForeignKey(OverageWindow, on_delete=models.PROTECT, related_name="reports")
    identifier = models.CharField(max_length=100, unique=True)
    first_unit = models.PositiveBigIntegerField()
    units = models.PositiveBigIntegerField()
    occurred_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    first_attempt_at = models.DateTimeField(null=True)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["window", "first_unit"], name="overage_report_once"),
            models.CheckConstraint(condition=Q(units__gt=0), name="overage_report_of_something"),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(state="pending"), name="overage_report_due"
            ),
        ]

    def __str__(self) -> str:
        return self.identifier

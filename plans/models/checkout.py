"""Purchases that were begun and are not finished, and the portal where they are managed."""

from django.db import models
from django.db.models import Q

from plans.models.catalogue import Price
from plans.models.subscriptions import Customer


class Checkout(models.Model):
    """One checkout session at Stripe. A customer has one open at a time, so that a double click
    or a second tab meets the same session instead of buying twice."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        COMPLETED = "completed", "Completed"
        # Completed, but the money is still on its way (a delayed payment method).
        AWAITING_PAYMENT = "awaiting_payment", "Awaiting payment"
        PAYMENT_FAILED = "payment_failed", "Payment failed"
        EXPIRED = "expired", "Expired"

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="checkouts")
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField(default=1)
    # Empty between our row and Stripe's answer; the retry carries the same idempotency key.
    stripe_session_id = models.CharField(max_length=255, unique=True, null=True, blank=True)
    url = models.TextField(blank=True)
    state = models.CharField(max_length=20, choices=State, default=State.OPEN)
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["customer"], condition=Q(state="open"), name="checkout_one_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.price} for {self.customer} ({self.state})"


class PortalConfiguration(models.Model):
    """The billing portal's rules at Stripe, as published for one kind of payer."""

    class Payer(models.TextChoices):
        USER = "user", "People"
        ORGANIZATION = "organization", "Organizations"

    payer = models.CharField(max_length=20, choices=Payer, unique=True)
    stripe_configuration_id = models.CharField(max_length=255)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.get_payer_display()}: {self.stripe_configuration_id}"

"""Who pays, and our copy of what Stripe says that they pay for."""

from django.db import models
from django.db.models import Q

from accounts.models import Organization, User
from plans.models.catalogue import Price


class Customer(models.Model):
    """The payer: one user or one organization, and their customer object at Stripe.

    Its row is the lock under which everything about its subscriptions is decided.
    """

    user = models.OneToOneField(
        User, on_delete=models.PROTECT, null=True, blank=True, related_name="customer"
    )
    organization = models.OneToOneField(
        Organization, on_delete=models.PROTECT, null=True, blank=True, related_name="customer"
    )
    # Empty until the first checkout, and again after the customer was deleted at Stripe.
    stripe_customer_id = models.CharField(max_length=255, unique=True, null=True, blank=True)
    # What they are willing to pay a period for usage beyond their plan, US cents; 0 for nothing.
    overage_cap_cents = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False) ^ Q(organization__isnull=False),
                name="customer_is_a_user_or_an_organization",
            ),
        ]

    def __str__(self) -> str:
        return str(self.user or self.organization)


class StripeCustomerAlias(models.Model):
    """A further customer object at Stripe that stands for a payer we know under another id."""

    class Kind(models.TextChoices):
        # A second one came into being beside the first (two tabs, a payment link).
        DUPLICATE = "duplicate", "Duplicate"
        # It was the payer's own, or one of the others, until it was deleted at Stripe.
        DELETED = "deleted", "Deleted at Stripe"
        # Support moved the payer to another customer object.
        REPLACED = "replaced", "Replaced"

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="aliases")
    stripe_customer_id = models.CharField(max_length=255, unique=True)
    kind = models.CharField(max_length=10, choices=Kind)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "former or duplicate Stripe customer"
        verbose_name_plural = "former or duplicate Stripe customers"

    def __str__(self) -> str:
        return f"{self.stripe_customer_id} ({self.kind})"


class Subscription(models.Model):
    """Stripe's subscription as last read. Written only by plans.subscriptions."""

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="subscriptions")
    stripe_subscription_id = models.CharField(max_length=255, unique=True)
    # Verbatim, also when we do not know the word: what it means is decided in plans.access.
    status = models.CharField(max_length=50, db_index=True)
    # The last status that we knew: what holds while `status` is a word we do not know.
    last_good_status = models.CharField(max_length=50, blank=True)
    # Access follows the price; empty while nobody has mapped it to a plan.
    price = models.ForeignKey(
        Price, on_delete=models.PROTECT, null=True, blank=True, related_name="subscriptions"
    )
    stripe_price_id = models.CharField(max_length=255, blank=True, db_index=True)
    # The plan of the last mapped price: what holds while a new price is unmapped.
    last_good_price = models.ForeignKey(
        Price, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    # Seats, for an organization.
    quantity = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField(null=True, blank=True)
    current_period_start = models.DateTimeField(null=True, blank=True)
    current_period_end = models.DateTimeField(null=True, blank=True)
    trial_end = models.DateTimeField(null=True, blank=True)
    cancel_at_period_end = models.BooleanField(default=False)
    cancel_at = models.DateTimeField(null=True, blank=True)
    canceled_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    # Running already while the first payment is still on its way: no access until it arrives.
    awaits_payment = models.BooleanField(default=False)
    # Collection paused by staff at Stripe; the status stays what it was.
    collection_paused = models.BooleanField(default=False)
    # When the present run of failed payments began. Grace counts from here and starts once.
    past_due_since = models.DateTimeField(null=True, blank=True)
    # The change that a schedule or a pending update will make, as Stripe tells it.
    pending_change = models.JSONField(null=True, blank=True)
    # When the state above was read from Stripe: an older reading never overwrites a newer one.
    read_at = models.DateTimeField()
    # The object itself as last read, without personal data, for staff.
    snapshot = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["customer", "status"], name="subscription_by_customer")]

    def __str__(self) -> str:
        return f"{self.stripe_subscription_id} ({self.status})"

"""What is for sale: plans, the models they include, and their prices at Stripe."""

from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

HIGHEST_TEMPERATURE = Decimal(2)


class GatewayModel(models.Model):
    """A model that the gateway serves, under the public name that callers use."""

    # As in litellm.config.yaml (`model_name`); a system check compares the two.
    name = models.CharField(max_length=200, unique=True)
    title = models.CharField(max_length=200)
    provider = models.CharField(max_length=100, blank=True)
    description = models.TextField(blank=True)
    # Tokens that prompt and answer may have together; shown to users.
    context_window = models.PositiveIntegerField(null=True, blank=True)
    # Withdrawn by staff (kill switch or retirement): no plan includes it until this is undone.
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Plan(models.Model):
    """A set of models and limits. Everyone has at least the default plan."""

    class ClientSystemMessages(models.TextChoices):
        ALLOW = "allow", "Allow, after ours"
        APPEND = "append", "Append to ours"
        REFUSE = "refuse", "Refuse"

    class AbortBilling(models.TextChoices):
        DELIVERED = "delivered", "What was delivered"
        GENERATED = "generated", "What was generated"
        AFTER_FIRST_TOKEN = "after_first_token", "Nothing before the first token"

    code = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    # Of several plans that a user is entitled to, the highest rank wins.
    rank = models.PositiveSmallIntegerField(unique=True)
    is_default = models.BooleanField(default=False)
    # Shown on the price list; a hidden plan can still be granted.
    is_public = models.BooleanField(default=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    gateway_models = models.ManyToManyField(GatewayModel, related_name="plans")
    rpm = models.PositiveIntegerField("requests per minute", validators=[MinValueValidator(1)])
    tpm = models.PositiveIntegerField("tokens per minute", validators=[MinValueValidator(1)])
    # Simultaneous requests per user, counted by us and by the gateway.
    max_parallel_requests = models.PositiveIntegerField(
        default=5, validators=[MinValueValidator(1)]
    )
    # What a user may spend at the gateway in one billing period. Zero allows nothing: LiteLLM
    # reads a missing budget as unlimited, so there is no way to leave it out.
    budget_cents = models.PositiveIntegerField("budget per period (US cents)")
    # Customers may let themselves be billed for usage beyond the budget (plans.overage), at what
    # the gateway asks and so much more.
    overage_allowed = models.BooleanField("paid overage allowed", default=False)
    overage_markup_percent = models.PositiveSmallIntegerField(
        "overage markup (%)", default=0, validators=[MaxValueValidator(1000)]
    )
    max_keys = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])

    # Days that a past-due subscription keeps the plan; Stripe's own retries last about as long.
    grace_days = models.PositiveSmallIntegerField(default=14)
    # Limits during grace as a share of the plan's own.
    grace_limit_percent = models.PositiveSmallIntegerField(default=100)
    trial_days = models.PositiveSmallIntegerField(default=0)

    default_max_tokens = models.PositiveIntegerField(default=4000)
    max_tokens_ceiling = models.PositiveIntegerField(default=8000)
    default_temperature = models.DecimalField(
        max_digits=3, decimal_places=2, default=Decimal("0.70")
    )
    # Requests that ask for more get this.
    temperature_ceiling = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=HIGHEST_TEMPERATURE,
        validators=[MinValueValidator(0), MaxValueValidator(HIGHEST_TEMPERATURE)],
    )
    client_system_messages = models.CharField(
        max_length=10, choices=ClientSystemMessages, default=ClientSystemMessages.ALLOW
    )
    abort_billing = models.CharField(
        max_length=20, choices=AbortBilling, default=AbortBilling.DELIVERED
    )
    # Prompts and completions are personal data: kept only where a plan says so.
    stores_content = models.BooleanField(default=False)

    stripe_product_id = models.CharField(max_length=255, blank=True)
    # Raised by every edit: forms refuse to save over somebody else's change.
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["rank"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="plan_one_default"
            ),
            models.CheckConstraint(
                condition=Q(is_default=False) | Q(archived_at=None),
                name="plan_default_is_not_archived",
            ),
            models.CheckConstraint(
                condition=Q(rpm__gte=1) & Q(tpm__gte=1) & Q(max_parallel_requests__gte=1),
                name="plan_limits_are_positive",
            ),
            models.CheckConstraint(
                condition=Q(grace_limit_percent__gte=1) & Q(grace_limit_percent__lte=100),
                name="plan_grace_limit_is_a_percentage",
            ),
            models.CheckConstraint(
                condition=Q(default_temperature__gte=0)
                & Q(default_temperature__lte=F("temperature_ceiling"))
                & Q(temperature_ceiling__lte=HIGHEST_TEMPERATURE),
                name="plan_temperatures_are_in_range",
                violation_error_message=(
                    "Temperatures go from 0 to 2, the default not above the ceiling."
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Price(models.Model):
    """What a plan costs for one interval, mirrored from Stripe or yet to be published there."""

    class Interval(models.TextChoices):
        MONTH = "month", "Monthly"
        YEAR = "year", "Yearly"

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="prices")
    # Empty until published. A price id at Stripe never changes its amount.
    stripe_price_id = models.CharField(max_length=255, unique=True, null=True, blank=True)
    # Ours; at Stripe it moves to the newest price, so it is consulted after the id.
    lookup_key = models.CharField(max_length=200, blank=True, db_index=True)
    interval = models.CharField(max_length=10, choices=Interval)
    # In the currency's smallest unit, as Stripe has it: 1900 is 19.00 USD, and 1,900 JPY.
    unit_amount = models.PositiveIntegerField()
    currency = models.CharField(max_length=3, default="usd")
    # Not sold any more; who has it keeps it.
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["plan__rank", "unit_amount"]
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "interval", "currency"],
                condition=Q(archived_at=None),
                name="price_one_on_sale_per_interval",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} {self.interval} {self.currency.upper()}"

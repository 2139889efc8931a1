"""What customers paid, as far as margins need it: Stripe's invoices and what was taken back.

Amounts in a currency are in its smallest unit, as Stripe has them. ``revenue`` is in US dollars,
which is what gateways ask for calls. All rows are written by plans.revenue alone, from Stripe's
present state; nothing here is edited.
"""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from plans.models.catalogue import Plan
from plans.models.subscriptions import Customer


class RevenueInvoice(models.Model):
    """One invoice as last read. Its row is also the queue: ``stale_since`` asks to read it."""

    class Rate(models.TextChoices):
        SAME = "same", "In US dollars"
        STRIPE = "stripe", "As Stripe exchanged it"
        TABLE = "table", "From our table of rates"
        MISSING = "missing", "No rate known"

    stripe_invoice_id = models.CharField(max_length=255, unique=True)
    stripe_customer_id = models.CharField(max_length=255, blank=True)
    stripe_subscription_id = models.CharField(max_length=255, blank=True)
    customer = models.ForeignKey(
        Customer, on_delete=models.SET_NULL, null=True, related_name="invoices"
    )
    # Stripe's word, or "deleted". Only a paid invoice has items.
    status = models.CharField(max_length=20, blank=True)
    currency = models.CharField(max_length=3, blank=True)
    # With tax, after discounts.
    total = models.BigIntegerField(default=0)
    tax = models.BigIntegerField(default=0)
    paid_at = models.DateTimeField(null=True)
    # US dollars for one unit (not the smallest) of the currency.
    fx_rate = models.DecimalField(max_digits=20, decimal_places=10, null=True)
    fx_source = models.CharField(max_length=10, choices=Rate, default=Rate.MISSING)
    # Stripe's own, disputes' included, in US dollars; what is not settled yet is not in it.
    fee = models.DecimalField(max_digits=18, decimal_places=2, default=0)
    # A fee or a rate may still change: not everything has a settled balance transaction.
    is_provisional = models.BooleanField(default=False)

    read_at = models.DateTimeField(null=True)
    stale_since = models.DateTimeField(null=True, default=timezone.now)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(stale_since__isnull=False),
                name="revenue_invoice_due",
            ),
            models.Index(fields=["customer", "-paid_at"], name="revenue_invoice_by_customer"),
        ]

    def __str__(self) -> str:
        return f"{self.stripe_invoice_id} ({self.status or 'not read yet'})"


class RevenueCharge(models.Model):
    """A charge that something happened to, whose invoice is still to be found."""

    stripe_charge_id = models.CharField(max_length=255, unique=True)
    noted_at = models.DateTimeField(default=timezone.now)
    next_attempt_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.stripe_charge_id


class RevenueItem(models.Model):
    """Money that was earned evenly over its days, or taken back on one.

    A refund is taken back on the day it was made, with the tax that it holds left out.
    """

    class Kind(models.TextChoices):
        LINE = "line", "Invoice line"
        PRORATION = "proration", "Proration"
        # The invoice's total and its lines do not agree: shown, never dropped.
        REST = "rest", "Rest of the invoice"
        REFUND = "refund", "Refund"
        CREDIT_NOTE = "credit_note", "Credit note"
        DISPUTE = "dispute", "Dispute"

    invoice = models.ForeignKey(RevenueInvoice, on_delete=models.CASCADE, related_name="items")
    kind = models.CharField(max_length=12, choices=Kind)
    # The line, refund, credit note or dispute at Stripe.
    external_id = models.CharField(max_length=255)
    customer = models.ForeignKey(Customer, on_delete=models.SET_NULL, null=True, related_name="+")
    # Empty for a price that no plan stands for.
    plan = models.ForeignKey(Plan, on_delete=models.SET_NULL, null=True, related_name="+")
    stripe_price_id = models.CharField(max_length=255, blank=True)
    currency = models.CharField(max_length=3)
    # gross = net + tax, discounts taken off.
    gross = models.BigIntegerField()
    tax = models.BigIntegerField()
    net = models.BigIntegerField()
    # The net amount in US dollars; null while no rate is known.
    revenue = models.DecimalField(max_digits=18, decimal_places=2, null=True)
    # In UTC, the last not included.
    starts_on = models.DateField()
    ends_on = models.DateField()

    class Meta:
        ordering = ["starts_on", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "external_id", "plan"],
                nulls_distinct=False,
                name="revenue_item_once",
            ),
            models.CheckConstraint(condition=Q(gross=F("net") + F("tax")), name="revenue_adds_up"),
            models.CheckConstraint(
                condition=Q(ends_on__gt=F("starts_on")), name="revenue_lasts_a_day"
            ),
        ]
        indexes = [
            models.Index(fields=["starts_on", "ends_on"], name="revenue_item_by_day"),
            models.Index(fields=["customer", "starts_on"], name="revenue_item_by_customer"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.external_id}"


class ExchangeRate(models.Model):
    """US dollars for one unit of a currency, for money that Stripe does not exchange for us.

    Holds from its day until the next rate.
    """

    currency = models.CharField(max_length=3, help_text="As Stripe writes it: eur, jpy.")
    day = models.DateField()
    rate = models.DecimalField(max_digits=20, decimal_places=10)

    class Meta:
        ordering = ["currency", "-day"]
        constraints = [
            models.UniqueConstraint(fields=["currency", "day"], name="exchange_rate_once"),
            models.CheckConstraint(condition=Q(rate__gt=0), name="exchange_rate_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.day}: {self.rate}"

"""What was used, as the gateway's spend log tells it, and its sums.

The gateway's log is the truth for money. ``UsageEntry`` is our copy of it, one row for each call,
with staff's credits beside; ``UsageHour`` and ``UsageDay`` are its sums, kept in the same
statement that adds an entry. All three are written by llmkeys.usage_books alone.
"""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Organization, User
from llmkeys.models.keys import VirtualKey


class UsageEntry(models.Model):
    """One call at the gateway, or one credit that staff gave. Only ever added to.

    A call is known by its request id, key and start together: LiteLLM takes request ids from
    providers, who may repeat them or send none. Whom a call belongs to is decided when it is
    imported and stays; empty means that nobody could be named.
    """

    class Source(models.TextChoices):
        GATEWAY = "gateway", "Gateway"
        CREDIT = "credit", "Credit by staff"

    source = models.CharField(max_length=10, choices=Source)
    # The request's id in the spend log, or what stands in for one; a credit's own name.
    external_id = models.CharField(max_length=255)
    # As the gateway names the key, whether it is ours or not.
    key_hash = models.CharField(max_length=255, blank=True)
    call_id = models.CharField(max_length=255, blank=True)
    # A call belongs to the hour and day (UTC), and to the budget window, of its start.
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    imported_at = models.DateTimeField(default=timezone.now)

    user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="usage")
    # Who paid for the seat on which the call was made, if it was an organization.
    organization = models.ForeignKey(
        Organization, on_delete=models.SET_NULL, null=True, related_name="usage"
    )
    key = models.ForeignKey(VirtualKey, on_delete=models.SET_NULL, null=True, related_name="usage")
    plan_code = models.CharField("plan", max_length=50, blank=True)
    # The public name, and what the provider calls it.
    model = models.CharField(max_length=200, blank=True)
    provider_model = models.CharField(max_length=200, blank=True)
    provider = models.CharField(max_length=100, blank=True)

    failed = models.BooleanField(default=False)
    error_code = models.CharField(max_length=20, blank=True)
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    # US dollars. What the gateway asks for, always zero for a credit.
    cost = models.DecimalField(max_digits=18, decimal_places=10, default=0)
    # US dollars given back to the customer, which changes nothing about what providers ask.
    credited = models.DecimalField(max_digits=18, decimal_places=10, default=0)
    # Tokens were used and the gateway put no price on them: zero is not to be believed.
    is_unpriced = models.BooleanField("unpriced", default=False)
    # Of a credit: why, and by whom.
    reason = models.CharField(max_length=500, blank=True)
    credited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )

    class Meta:
        verbose_name_plural = "usage entries"
        ordering = ["-started_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "external_id", "key_hash", "started_at"], name="usage_entry_once"
            ),
            models.CheckConstraint(
                condition=Q(source="gateway", credited=0) | Q(source="credit", cost=0),
                name="usage_entry_costs_or_credits",
            ),
        ]
        indexes = [
            models.Index(fields=["-started_at"], name="usage_entry_by_time"),
            models.Index(fields=["user", "-started_at"], name="usage_entry_by_user"),
            models.Index(fields=["imported_at"], name="usage_entry_by_import"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.external_id}"


class UsageRetention(models.Model):
    """From when on entries are complete; one row at most, written by llmkeys.usage_books alone.

    Before that moment the sums are all there is: they are not counted anew, and a call that the
    gateway's log shows again cannot be told from one that was counted, and is not.
    """

    complete_from = models.DateTimeField()

    def __str__(self) -> str:
        return f"complete from {self.complete_from:%Y-%m-%d}"


class UsageSum(models.Model):
    """Sums of entries for one user, organization, plan, model and provider."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    organization = models.ForeignKey(
        Organization, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    plan_code = models.CharField("plan", max_length=50)
    model = models.CharField(max_length=200)
    provider = models.CharField(max_length=100)
    # Calls that were answered, and those that were refused or failed.
    requests = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    unpriced = models.PositiveBigIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    # US dollars, as in UsageEntry.
    cost = models.DecimalField(max_digits=22, decimal_places=10, default=0)
    credited = models.DecimalField(max_digits=22, decimal_places=10, default=0)

    class Meta:
        abstract = True


DIMENSIONS = ("user", "organization", "plan_code", "model", "provider")


class UsageHour(UsageSum):
    hour = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["hour", *DIMENSIONS], nulls_distinct=False, name="usage_hour_once"
            ),
        ]
        indexes = [
            models.Index(fields=["user", "hour"], name="usage_hour_by_user"),
            models.Index(fields=["organization", "hour"], name="usage_hour_by_organization"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.user_id} {self.model}"


class UsageDay(UsageSum):
    # In UTC.
    day = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["day", *DIMENSIONS], nulls_distinct=False, name="usage_day_once"
            ),
        ]
        indexes = [
            models.Index(fields=["user", "day"], name="usage_day_by_user"),
            models.Index(fields=["organization", "day"], name="usage_day_by_organization"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.user_id} {self.model}"


class UsageImport(models.Model):
    """How far one gateway's spend log has been read. Its row is the lease of the import."""

    gateway_url = models.CharField(max_length=500, unique=True)
    # Everything that started before has been read at least once.
    read_until = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True, blank=True)
    # The last runs that read back over a short, a long and a very long stretch for late rows.
    succeeded_at = models.DateTimeField(null=True, blank=True)
    wide_at = models.DateTimeField(null=True, blank=True)
    deep_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    # Rows seen, rows that were new, and rows that no start or key could be read from.
    rows_read = models.PositiveBigIntegerField(default=0)
    rows_added = models.PositiveBigIntegerField(default=0)
    rows_unreadable = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.gateway_url} until {self.read_until:%Y-%m-%d %H:%M:%S}"

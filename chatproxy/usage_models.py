"""What a comparison of the two books of usage came to: the gateway's spend log and our ledger."""

from django.db import models

from accounts.models import User


class UsageCheck(models.Model):
    """One day (UTC) compared. Written by chatproxy.usage_check alone, anew each time."""

    day = models.DateField(unique=True)
    checked_at = models.DateTimeField()
    # Calls that ended after this moment were left for the next time.
    settled_until = models.DateTimeField()
    gateway_calls = models.PositiveBigIntegerField(default=0)
    ledger_requests = models.PositiveBigIntegerField(default=0)
    # US dollars, exact: gateway_cost - ledger_cost is the sum of the comparisons' differences.
    gateway_cost = models.DecimalField(max_digits=22, decimal_places=10, default=0)
    ledger_cost = models.DecimalField(max_digits=22, decimal_places=10, default=0)
    # What differs without a reason that we know, regardless of sign.
    unexplained_requests = models.PositiveBigIntegerField(default=0)
    unexplained_cost = models.DecimalField(max_digits=22, decimal_places=10, default=0)
    # The day's cost by the gateway's own daily sums; null while it has not been asked.
    counted_cost = models.DecimalField(max_digits=22, decimal_places=10, null=True)

    class Meta:
        ordering = ["-day"]

    def __str__(self) -> str:
        return str(self.day)


class UsageComparison(models.Model):
    """The requests of one user, model and day that compare in the same way."""

    class Kind(models.TextChoices):
        AGREES = "agrees", "Both say the same"
        REFUSED = "refused", "Refused or failed, at no cost"
        NOT_THROUGH_US = "not_through_us", "Our key, used without us"
        UNKNOWN_KEY = "unknown_key", "A key that is not ours"
        ESTIMATED = "estimated", "The gateway told us no usage; ours is an estimate"
        NOT_TOLD = "not_told", "The gateway told us no price"
        CUT_SHORT = "cut_short", "The answer broke off or the client left"
        COST_DIFFERS = "cost_differs", "The cost differs"
        LOST_AT_GATEWAY = "lost_at_gateway", "Missing in the gateway's log"
        LOST_HERE = "lost_here", "Missing in our ledger"

    check_of = models.ForeignKey(
        UsageCheck, on_delete=models.CASCADE, related_name="comparisons", verbose_name="day"
    )
    user = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    model = models.CharField(max_length=200)
    kind = models.CharField(max_length=20, choices=Kind)
    requests = models.PositiveBigIntegerField()
    gateway_cost = models.DecimalField(max_digits=22, decimal_places=10)
    ledger_cost = models.DecimalField(max_digits=22, decimal_places=10)
    # One of them: a ledger id where there is one, else the gateway's request id.
    example = models.CharField(max_length=255)

    class Meta:
        ordering = ["kind", "-requests"]
        constraints = [
            models.UniqueConstraint(
                fields=["check_of", "user", "model", "kind"],
                nulls_distinct=False,
                name="usage_comparison_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.requests}"


UNEXPLAINED = frozenset(
    {
        UsageComparison.Kind.COST_DIFFERS,
        UsageComparison.Kind.LOST_AT_GATEWAY,
        UsageComparison.Kind.LOST_HERE,
    }
)

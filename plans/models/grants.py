"""Plans that staff give away."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import Organization, User
from plans.models.catalogue import Plan


class PlanGrant(models.Model):
    """A plan that staff gave to a user or an organization, until a date, for a reason."""

    user = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="grants"
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="grants"
    )
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="grants")
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    reason = models.TextField()
    granted_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False) ^ Q(organization__isnull=False),
                name="grant_is_to_a_user_or_an_organization",
            ),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")), name="grant_ends_after_it_starts"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} for {self.user or self.organization} until {self.ends_at:%Y-%m-%d}"

"""Switches that take access away at once."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import User
from plans.models import GatewayModel, Plan


class KillSwitch(models.Model):
    """Access to a model, a plan, one user or everything, withdrawn by staff until lifted."""

    class Scope(models.TextChoices):
        MODEL = "model", "A model"
        PLAN = "plan", "A plan"
        USER = "user", "A user"
        EVERYONE = "everyone", "Everyone"

    scope = models.CharField(max_length=10, choices=Scope)
    gateway_model = models.ForeignKey(
        GatewayModel, on_delete=models.PROTECT, null=True, blank=True, related_name="switches"
    )
    plan = models.ForeignKey(
        Plan, on_delete=models.PROTECT, null=True, blank=True, related_name="switches"
    )
    user = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, blank=True, related_name="switches"
    )
    reason = models.CharField(max_length=500)
    pulled_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    pulled_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    # Set by whoever lifts it, or by the sweep once it has expired.
    lifted_at = models.DateTimeField(null=True, blank=True)
    # When every probe found access gone, and what the probes found.
    proven_at = models.DateTimeField(null=True, blank=True)
    proof = models.JSONField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "kill switches"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="switch_names_what_its_scope_says",
                violation_error_message="Name what the scope says, and nothing else.",
                condition=(
                    Q(scope="model", gateway_model__isnull=False, plan=None, user=None)
                    | Q(scope="plan", gateway_model=None, plan__isnull=False, user=None)
                    | Q(scope="user", gateway_model=None, plan=None, user__isnull=False)
                    | Q(scope="everyone", gateway_model=None, plan=None, user=None)
                ),
            ),
        ]
        indexes = [
            models.Index(fields=["scope"], condition=Q(lifted_at=None), name="switch_in_force"),
        ]

    def __str__(self) -> str:
        return f"{self.get_scope_display()}: {self.target or 'all plans'}"

    @property
    def target(self) -> GatewayModel | Plan | User | None:
        return self.gateway_model or self.plan or self.user

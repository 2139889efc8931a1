"""What a plan's keys share at the gateway."""

from django.db import models

from llmkeys.models.reconciled import BEHIND, Reconciled
from plans.models import Plan


class PlanAtGateway(Reconciled):
    """A plan's team (its models) and budget row (its rates) at LiteLLM.

    Every key of the plan refers to both, so an edit of the plan's models or rates is two calls,
    however many keys there are. LiteLLM's access group objects would do for models too, but each
    such row lists the hash of every key in it.
    """

    plan = models.OneToOneField(
        Plan, on_delete=models.PROTECT, primary_key=True, related_name="at_gateway"
    )
    # Both the team's id and the budget row's.
    gateway_id = models.CharField(max_length=255, unique=True)
    # What of the plan is written into each of its keys: when this changes, the keys must follow.
    key_fields = models.JSONField(default=dict)
    # What the keys of this plan must no longer be able to call, until probes have shown it.
    probe_for = models.JSONField(null=True, blank=True)
    probe_since = models.DateTimeField(null=True, blank=True)
    probe_at = models.DateTimeField(null=True, blank=True)
    enforced_at = models.DateTimeField(null=True, blank=True)
    enforcement_alarm_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "plan at the gateway"
        verbose_name_plural = "plans at the gateway"
        indexes = [models.Index(fields=["next_attempt_at"], condition=BEHIND, name="plan_due")]

    def __str__(self) -> str:
        return f"{self.plan} ({self.gateway_id})"

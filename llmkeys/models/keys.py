"""A user's key at the gateway."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import User
from llmkeys.models.reconciled import BEHIND, Reconciled


class LiveKeys(models.Manager["VirtualKey"]):
    """Keys that the gateway should know: not yet retired for good."""

    def get_queryset(self) -> models.QuerySet["VirtualKey"]:
        return super().get_queryset().exclude(lifecycle=VirtualKey.Lifecycle.RETIRED)


class VirtualKey(Reconciled):
    """One key at LiteLLM, whose value we chose ourselves before the gateway heard of it.

    The value never leaves the server: it is stored encrypted, used to call models on the user's
    behalf, and erased once the gateway has forgotten the key. The row itself stays for the books.
    """

    class Lifecycle(models.TextChoices):
        ACTIVE = "active", "Active"
        # Replaced, and still valid until ``retire_at``.
        RETIRING = "retiring", "Retiring"
        # Must not exist at the gateway any more.
        RETIRED = "retired", "Retired"

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="virtual_keys")
    label = models.CharField(max_length=100, default="default")
    # The gateway's name for it. Begins with LITELLM_KEY_PREFIX, which marks it as ours.
    alias = models.CharField(max_length=255, unique=True)
    # SHA-256 of the value: how both sides name the key in calls and logs.
    key_hash = models.CharField(max_length=64, unique=True)
    # tesslate.lib.crypto; empty once the key is gone from the gateway.
    secret = models.TextField(blank=True)
    last_four = models.CharField(max_length=4)

    lifecycle = models.CharField(max_length=10, choices=Lifecycle, default=Lifecycle.ACTIVE)
    # Several may: after a rotation was undone, the same key can be rotated again.
    replaces = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="replaced_by"
    )
    retire_at = models.DateTimeField(null=True, blank=True)
    # The gateway has confirmed that it no longer holds the key.
    removed_at = models.DateTimeField(null=True, blank=True)

    # Withdrawn by staff, whatever the plan says.
    blocked_at = models.DateTimeField(null=True, blank=True)
    blocked_reason = models.CharField(max_length=500, blank=True)

    # The budget window that the gateway's spend counts for. It only ever moves forward, so that no
    # window's budget is handed out twice.
    window_start = models.DateTimeField(null=True, blank=True)
    # The same window, as the gateway was last seen to name it (llmkeys.spec.Window).
    window = models.CharField(max_length=60, blank=True)
    # Raised by staff to have the spend of the present window set to zero once more.
    spend_resets = models.PositiveIntegerField(default=0)
    # Spend in that window as the gateway last told it.
    spend = models.DecimalField(max_digits=14, decimal_places=6, default=0)
    spend_seen_at = models.DateTimeField(null=True, blank=True)
    # Spend that counts although it was made on the key which this one replaced, in that window.
    carried_spend = models.DecimalField(max_digits=14, decimal_places=6, default=0)
    # This key's part of the user's budget, in US dollars, and the circumstances under which it was
    # worked out (llmkeys.budgets); empty while the key has the whole budget to itself.
    budget_cap = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    budget_basis = models.CharField(max_length=64, blank=True)

    # After access was taken away: what a probe with the key must find, until the gateway obeys.
    probe_for = models.JSONField(null=True, blank=True)
    probe_since = models.DateTimeField(null=True, blank=True)
    probe_at = models.DateTimeField(null=True, blank=True)
    enforced_at = models.DateTimeField(null=True, blank=True)
    enforcement_alarm_at = models.DateTimeField(null=True, blank=True)

    last_used_at = models.DateTimeField(null=True, blank=True)
    # When an audit last saw the key in the gateway's list.
    audited_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar[models.Manager["VirtualKey"]] = models.Manager()
    live: ClassVar[LiveKeys] = LiveKeys()

    class Meta:
        ordering = ["-id"]
        constraints = [
            # Two workers that both miss the first key make one between them.
            models.UniqueConstraint(
                fields=["user", "label"],
                condition=Q(lifecycle="active"),
                name="key_one_active_per_label",
            ),
            models.CheckConstraint(
                condition=~Q(lifecycle="retiring") | Q(retire_at__isnull=False),
                name="key_retiring_has_an_end",
            ),
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=BEHIND, name="key_due"),
            models.Index(
                fields=["probe_at"], condition=Q(probe_at__isnull=False), name="key_probe_due"
            ),
            models.Index(
                fields=["retire_at"], condition=Q(lifecycle="retiring"), name="key_retire_due"
            ),
            models.Index(fields=["user", "lifecycle"], name="key_by_user"),
            models.Index(
                fields=["parked_at"], condition=Q(parked_at__isnull=False), name="key_parked"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.label} (…{self.last_four})"

    def __repr__(self) -> str:
        return f"<VirtualKey {self.pk} …{self.last_four}>"

    @property
    def is_at_gateway(self) -> bool:
        return self.observed is not None

    @property
    def observed_value(self) -> dict[str, Any]:
        return self.observed or {}

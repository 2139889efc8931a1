"""What is said to models on our behalf (prompts), and what was asked of them (the ledger)."""

import uuid
from datetime import datetime

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import Organization, User
from chatproxy.usage_models import UsageCheck, UsageComparison
from plans.models import GatewayModel, Plan

__all__ = [
    "ChatContent",
    "ChatRequest",
    "PromptVersion",
    "SystemPrompt",
    "UsageCheck",
    "UsageComparison",
    "public_request_id",
]


class SystemPrompt(models.Model):
    """A piece of text put before a conversation, for some plans and models or for all.

    Pieces go in the order of their category (as listed), position and id. The text lives in
    PromptVersion rows; this row says which of them is in use.
    """

    class Category(models.TextChoices):
        BASE = "base", "Base"
        CODE = "code", "Code"
        UI = "ui", "UI"

    name = models.CharField(max_length=100, unique=True)
    category = models.CharField(max_length=10, choices=Category)
    position = models.PositiveSmallIntegerField(default=100)
    is_enabled = models.BooleanField("enabled", default=True)
    # Empty means every plan, every model.
    plans = models.ManyToManyField(Plan, blank=True, related_name="system_prompts")
    gateway_models = models.ManyToManyField(
        GatewayModel, blank=True, related_name="system_prompts", verbose_name="models"
    )
    # In use from starts_at until just before ends_at; empty means without limit.
    starts_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)

    published = models.ForeignKey(
        "PromptVersion", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    # The version under trial, and the share of users who get it. A user stays on one side.
    challenger = models.ForeignKey(
        "PromptVersion", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    challenger_percent = models.PositiveSmallIntegerField(
        default=0, validators=[MaxValueValidator(100)]
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["category", "position", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(challenger_percent__lte=100), name="prompt_split_is_a_percentage"
            ),
            models.CheckConstraint(
                condition=Q(challenger__isnull=False) | Q(challenger_percent=0),
                name="prompt_split_needs_a_challenger",
            ),
            models.CheckConstraint(
                condition=Q(starts_at=None) | Q(ends_at=None) | Q(ends_at__gt=F("starts_at")),
                name="prompt_window_ends_after_it_starts",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def is_in_use(self, at: datetime) -> bool:
        return (
            self.is_enabled
            and self.published_id is not None
            and (self.starts_at is None or self.starts_at <= at)
            and (self.ends_at is None or at < self.ends_at)
        )


class PromptVersion(models.Model):
    """One text of a prompt. Never edited: a change is a new version, a roll-back republishes."""

    prompt = models.ForeignKey(SystemPrompt, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    # May hold {{ user_name }}, {{ plan }} and {{ date }}.
    text = models.TextField()
    note = models.CharField(max_length=500, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["prompt", "number"], name="prompt_version_number_once"),
        ]

    def __str__(self) -> str:
        return f"{self.prompt} v{self.number}"


class ChatRequest(models.Model):
    """One chat request, however it ended. Written by chatproxy.ledger alone, never changed.

    The table is partitioned by month of ``started_at`` (see the first migration). ``id`` is a
    UUIDv7 whose time is ``started_at``, so a look-up by id needs to visit one partition only.
    Foreign keys carry no database constraint: a check per row would cost more than the row, and
    users are never deleted.
    """

    class Outcome(models.TextChoices):
        COMPLETED = "completed", "Completed"
        # Said no before the gateway did any work: by us or by its limits.
        REFUSED = "refused", "Refused"
        # An error before the first byte: gateway, provider or ourselves.
        FAILED = "failed", "Failed"
        # An error after the first byte.
        BROKEN = "broken", "Broken off"
        # The client left.
        ABANDONED = "abandoned", "Abandoned"
        # The answer was kept for a retry under the same idempotency key and fetched by it.
        REPLAYED = "replayed", "Replayed"

    class Client(models.TextChoices):
        CHAT = "chat", "Front end"
        OPENAI = "openai", "OpenAI-compatible"

    id = models.UUIDField(primary_key=True, editable=False)
    started_at = models.DateTimeField()
    user = models.ForeignKey(
        User, on_delete=models.DO_NOTHING, db_constraint=False, related_name="chat_requests"
    )
    organization = models.ForeignKey(
        Organization,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="chat_requests",
    )
    # llmkeys.VirtualKey and accounts.ApiToken, by id.
    virtual_key_id = models.BigIntegerField(null=True)
    api_token_id = models.BigIntegerField(null=True)
    plan_code = models.CharField("plan", max_length=50)
    # As asked for (public name), and as served where the gateway fell back to another.
    model = models.CharField(max_length=200)
    served_model = models.CharField(max_length=200, blank=True)
    client = models.CharField(max_length=10, choices=Client)
    is_stream = models.BooleanField("stream", default=True)
    idempotency_key = models.CharField(max_length=255, blank=True)

    outcome = models.CharField(max_length=10, choices=Outcome)
    # The HTTP status that the client got; 499 where it left before there was one.
    status = models.PositiveSmallIntegerField()
    error_code = models.CharField(max_length=60, blank=True)
    # Why it was refused, or what an abort cost and by which policy: enough to replay the decision.
    decision = models.JSONField(null=True)

    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    # US dollars at the gateway; null where nobody could tell (model without a price).
    cost = models.DecimalField(max_digits=18, decimal_places=10, null=True)
    # The gateway told no usage: tokens are ours, counted from what was delivered.
    is_estimated = models.BooleanField("estimated", default=False)
    # Milliseconds from the request's arrival to the first byte of the answer, and to its end.
    ttfb_ms = models.PositiveIntegerField(null=True)
    duration_ms = models.PositiveIntegerField()

    # x-litellm-call-id (ours), and the answer's own id, which is the spend log's request_id.
    gateway_call_id = models.CharField(max_length=64, blank=True)
    gateway_response_id = models.CharField(max_length=128, blank=True)
    # PromptVersion ids, in the order used.
    prompt_versions = models.JSONField(default=list)

    class Meta:
        ordering = ["-started_at"]
        indexes = [
            # A user's month: an index-only scan.
            models.Index(
                fields=["user", "-started_at"],
                include=["model", "outcome", "prompt_tokens", "completion_tokens", "cost"],
                name="chatrequest_by_user",
            ),
            # A model's day: likewise.
            models.Index(
                fields=["model", "-started_at"],
                include=["outcome", "prompt_tokens", "completion_tokens", "cost"],
                name="chatrequest_by_model",
            ),
            models.Index(fields=["gateway_response_id"], name="chatrequest_by_response"),
            models.Index(fields=["-started_at"], name="chatrequest_by_time"),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return public_request_id(self.id)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class ChatContent(models.Model):
    """Prompt and answer of one request, kept only where the plan or CHAT_STORE_CONTENT says so.

    Personal data: encrypted, shown to nobody but its user, and gone after CHAT_CONTENT_DAYS.
    """

    request_id = models.UUIDField(primary_key=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_index=True)
    encrypted = models.TextField()

    def __str__(self) -> str:
        return public_request_id(self.request_id)


def public_request_id(request_id: uuid.UUID) -> str:
    """How callers see a request's id: in X-Request-Id, in receipts and in error reports."""
    return f"req_{request_id.hex}"

"""What chat callers are told, one stable code per cause, and how the gateway's refusals map to it.

Nothing that the gateway or a provider wrote reaches a caller: their texts hold key hashes, parts
of provider keys and internal addresses. Only numbers are read out of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from tesslate.lib.errors import (
    ApiError,
    Conflict,
    InvalidRequest,
    PermissionDenied,
    RateLimited,
    Unavailable,
)


class BadJson(InvalidRequest):
    code = "invalid_json"
    message = "The body is not a JSON object."


class MessagesTooLarge(InvalidRequest):
    code = "messages_too_large"
    message = "The messages are too long."


class UnknownModel(InvalidRequest):
    code = "model_not_found"
    message = "There is no such model."


class ModelNotInPlan(PermissionDenied):
    code = "model_not_in_plan"
    message = "Your plan does not include this model."


class ModelDisabled(PermissionDenied):
    code = "model_disabled"
    message = "This model is withdrawn at the moment."


class SystemMessageRefused(PermissionDenied):
    code = "system_message_not_allowed"
    message = "Your plan does not allow system messages of your own."


class AccountSuspended(PermissionDenied):
    code = "account_suspended"
    message = "Access to models is suspended for this account. Please contact us."


class KeyOutOfStep(Conflict):
    """The gateway's idea of the key differs from ours; it is being put right."""

    code = "key_not_ready"
    message = "Your access is being set up. Try again in a moment."


class BudgetExceeded(ApiError):
    status_code = 402
    type = "insufficient_quota"
    code = "budget_exceeded"
    message = "The budget of your plan for this period is used up."


class RequestsLimited(RateLimited):
    code = "rate_limit_requests"
    message = "Too many requests per minute for your plan."


class TokensLimited(RateLimited):
    code = "rate_limit_tokens"
    message = "Too many tokens per minute for your plan."


class TooManyStreams(RateLimited):
    code = "too_many_streams"
    message = "Too many simultaneous requests for your plan."


class ContextTooLong(InvalidRequest):
    code = "context_length_exceeded"
    message = "The conversation is longer than this model can take."


class RefusedByProvider(InvalidRequest):
    code = "rejected_by_provider"
    message = "The model's provider does not accept this request. Check its parameters."


class ContentFiltered(InvalidRequest):
    code = "content_policy_violation"
    message = "The model's provider refused this content."


class ProviderBusy(Unavailable):
    code = "provider_busy"
    message = "The model's provider is busy. Try again shortly."


class GatewayUnavailable(Unavailable):
    code = "gateway_unavailable"
    message = "The models cannot be reached at the moment. Try again shortly."


class ProviderFailed(ApiError):
    status_code = 502
    code = "provider_error"
    message = "The model's provider failed. Try again, or use another model."


class ProviderTimeout(ApiError):
    status_code = 504
    code = "provider_timeout"
    message = "The model's provider did not answer in time."


class StreamBroken(ProviderFailed):
    code = "stream_broken"
    message = "The answer broke off. What came so far is incomplete."


class ShuttingDown(Unavailable):
    code = "shutting_down"
    message = "This server is restarting. Try again."


class IdempotencyConflict(Conflict):
    code = "request_in_progress"
    message = "A request with this idempotency key is still running."


class IdempotencyReused(InvalidRequest):
    status_code = 422
    code = "idempotency_key_reused"
    message = "This idempotency key was used for a different request."


class IdempotencyUnavailable(Unavailable):
    code = "idempotency_unavailable"
    message = "Idempotency keys cannot be honoured at the moment. Try again, or send none."


@dataclass(frozen=True, slots=True)
class GatewayRefusal:
    """A non-2xx answer of the gateway, reduced to what decides and may be kept."""

    status: int
    type: str
    rate_limit_type: str
    retry_after: int | None
    # The rule's number and what was used, where the text told them.
    limit: float | None
    used: float | None
    says_context: bool
    says_content_policy: bool

    @property
    def concerns_key(self) -> bool:
        """The gateway does not accept the key that we sent: ours to heal, not the caller's."""
        if self.status == 401:
            # A provider's refusal of the gateway's own credentials is authentication_error.
            return self.type in {"token_not_found_in_db", "expired_key", "auth_error"}
        return self.status == 404 and self.type == "not_found_error"

    @property
    def is_budget(self) -> bool:
        return self.type == "budget_exceeded"

    @property
    def is_model_denied(self) -> bool:
        return self.type.endswith("model_access_denied")

    def as_decision(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "type": self.type,
            "rate_limit_type": self.rate_limit_type,
            "limit": self.limit,
            "used": self.used,
        }


NUMBER = r"(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)"
CURRENT_LIMIT = re.compile(rf"Current limit: {NUMBER}")
REMAINING = re.compile(rf"Remaining: {NUMBER}")
CURRENT_COST = re.compile(rf"[Cc]urrent cost: {NUMBER}")
MAX_BUDGET = re.compile(rf"[Mm]ax budget: {NUMBER}")
LONGEST_WAIT_SECONDS = 3600


def read_refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> GatewayRefusal:
    """Understand an error answer; any of LiteLLM's envelopes, or none at all."""
    kind, text = _type_and_text(body)
    limit, used = _numbers(text)
    return GatewayRefusal(
        status=status,
        type=kind,
        rate_limit_type=headers.get("rate_limit_type", "")[:40],
        retry_after=_wait(headers, now),
        limit=limit,
        used=used,
        says_context="ContextWindowExceeded" in text,
        says_content_policy="ContentPolicyViolation" in text,
    )


def _type_and_text(body: bytes) -> tuple[str, str]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict):
        kind = error.get("type")
        return (kind if isinstance(kind, str) else "")[:60], str(error.get("message") or "")
    return "", ""


def _numbers(text: str) -> tuple[float | None, float | None]:
    if (limit := CURRENT_LIMIT.search(text)) and (remaining := REMAINING.search(text)):
        return float(limit[1]), max(0.0, float(limit[1]) - float(remaining[1]))
    if (cost := CURRENT_COST.search(text)) and (budget := MAX_BUDGET.search(text)):
        return float(budget[1]), float(cost[1])
    return None, None


def _wait(headers: Mapping[str, str], now: datetime) -> int | None:
    """Whole seconds to wait. The limiter's reset_at is exact where its retry-after is not."""
    if reset := headers.get("reset_at"):
        try:
            at = datetime.strptime(reset, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        except ValueError:
            pass
        else:
            return min(LONGEST_WAIT_SECONDS, max(1, round((at - now).total_seconds())))
    for name in ("retry-after", "llm_provider-retry-after"):
        value = headers.get(name, "")
        if value.isascii() and value.isdigit():
            return min(LONGEST_WAIT_SECONDS, max(1, int(value)))
    return None

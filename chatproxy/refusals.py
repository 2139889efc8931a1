"""What a caller is told when the gateway says no: which rule, its number on this plan, what was
used, when it clears, and which plan would allow more."""

from datetime import datetime, timedelta
from typing import Any

from chatproxy.callers import Caller
from chatproxy.catalogue import Catalogue, PlanTerms
from chatproxy.errors import (
    BudgetExceeded,
    ContentFiltered,
    ContextTooLong,
    GatewayRefusal,
    GatewayUnavailable,
    KeyOutOfStep,
    ProviderBusy,
    ProviderFailed,
    ProviderTimeout,
    RefusedByProvider,
    RequestsLimited,
    TokensLimited,
    TooManyStreams,
)
from tesslate.lib.errors import ApiError

# LiteLLM counts per minute, from the first request on.
WINDOW_SECONDS = 60
PROVIDER_WAIT_SECONDS = 5
GATEWAY_WAIT_SECONDS = 2


def explain(
    refusal: GatewayRefusal,
    *,
    caller: Caller,
    plan: PlanTerms,
    catalogue: Catalogue,
    now: datetime,
) -> ApiError:
    """The error for the caller. By the gateway's type first, by status second."""
    if refusal.is_budget:
        return _budget(refusal, caller, plan, catalogue)
    if refusal.concerns_key or refusal.is_model_denied:
        # Our plan includes the model, or we had refused it ourselves: the key lags behind.
        return KeyOutOfStep(retry_after=1)
    if refusal.status == 429 and refusal.rate_limit_type:
        return _rate(refusal, caller, plan, catalogue, now)
    if refusal.status == 429:
        return ProviderBusy(retry_after=refusal.retry_after or PROVIDER_WAIT_SECONDS)
    if refusal.says_context:
        return ContextTooLong(param="messages")
    if refusal.says_content_policy:
        return ContentFiltered(param="messages")
    if refusal.status in {400, 413, 422}:
        return RefusedByProvider()
    if refusal.status in {408, 504}:
        return ProviderTimeout()
    if refusal.status in {502, 503}:
        return GatewayUnavailable(retry_after=refusal.retry_after or GATEWAY_WAIT_SECONDS)
    return ProviderFailed()


def too_many_streams(running: int, *, plan: PlanTerms, catalogue: Catalogue) -> TooManyStreams:
    return TooManyStreams(
        retry_after=1,
        details={
            "rule": "simultaneous_requests",
            "limit": plan.max_parallel_requests,
            "used": running,
            "plan": plan.code,
            "upgrade_to": catalogue.upgrade_for(plan),
        },
    )


def _budget(
    refusal: GatewayRefusal, caller: Caller, plan: PlanTerms, catalogue: Catalogue
) -> ApiError:
    return BudgetExceeded(
        details={
            "rule": "budget_dollars",
            "limit": plan.budget_cents / 100 if refusal.limit is None else refusal.limit,
            "used": refusal.used,
            "clears_at": caller.period_end.isoformat(),
            "plan": plan.code,
            "upgrade_to": catalogue.upgrade_for(plan),
        }
    )


def _rate(
    refusal: GatewayRefusal,
    caller: Caller,
    plan: PlanTerms,
    catalogue: Catalogue,
    now: datetime,
) -> ApiError:
    if refusal.rate_limit_type == "max_parallel_requests":
        return too_many_streams(plan.max_parallel_requests, plan=plan, catalogue=catalogue)
    is_tokens = refusal.rate_limit_type == "tokens"
    number = (plan.tpm if is_tokens else plan.rpm) * caller.limit_percent // 100
    wait = refusal.retry_after or WINDOW_SECONDS
    details: dict[str, Any] = {
        "rule": "tokens_per_minute" if is_tokens else "requests_per_minute",
        "limit": number if refusal.limit is None else int(refusal.limit),
        "used": None if refusal.used is None else int(refusal.used),
        "clears_at": (now + timedelta(seconds=wait)).isoformat(timespec="seconds"),
        "plan": plan.code,
        "upgrade_to": catalogue.upgrade_for(plan),
    }
    return (TokensLimited if is_tokens else RequestsLimited)(retry_after=wait, details=details)

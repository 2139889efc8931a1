"""LiteLLM's refusals: status, type and body as it sends them (1.106.2).

Its error bodies come in four shapes. Most are the first; the code is the status, as a string:

    {"error": {"message", "type", "param", "code"}}
    {"detail": {"error": …}} or {"detail": "…"}     budgets, reset_spend, route not allowed
    {"detail": [{"type", "loc", "msg"}]}             a request that does not fit the schema, 422
    "…"                                              /metrics without a key
"""

import time
from typing import Any

import orjson

from sandbox.asgi import Headers


class Refusal(Exception):
    """A request answered with an error. `kind` and `rate_type` go into the spend log."""

    def __init__(
        self,
        status: int,
        body: object,
        *,
        headers: Headers | None = None,
        kind: str = "",
        rate_type: str | None = None,
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body = orjson.dumps(body)
        self.headers = headers or []
        self.kind = kind
        self.rate_type = rate_type


def error(status: int, message: str, kind: str, param: str | None = "None", **more: Any) -> Refusal:
    body = {"message": message, "type": kind, "param": param, "code": str(status), **more}
    return Refusal(status, {"error": body}, kind=kind)


def detail(status: int, text: object) -> Refusal:
    return Refusal(status, {"detail": text}, kind="detail")


def detail_error(status: int, text: str) -> Refusal:
    return detail(status, {"error": text})


def invalid(kind: str, loc: list[str | int], message: str) -> Refusal:
    return detail(422, [{"type": kind, "loc": loc, "msg": message}])


def no_key() -> Refusal:
    return error(401, "Authentication Error, No api key passed in.", "auth_error")


def not_a_virtual_key() -> Refusal:
    text = "LiteLLM Virtual Key expected. Received=****, expected to start with 'sk-'."
    return error(401, text, "auth_error")


def unknown_key(name: str, token: str) -> Refusal:
    text = (
        "Authentication Error, Invalid proxy server token passed. "
        f"Received API Key = {name}, Key Hash (Token) ={token}. "
        "Unable to find token in cache or `LiteLLM_VerificationTokenTable`"
    )
    return error(401, text, "token_not_found_in_db", "key")


NO_METADATA = (
    "metadata\n  Input should be a valid dictionary "
    "[type=dict_type, input_value=None, input_type=NoneType]"
)


def poisoned_key() -> Refusal:
    """What a key answers whose metadata was set to null: LiteLLM cannot read it any more."""
    text = "Authentication Error, 1 validation error for LiteLLM_VerificationTokenView\n"
    return error(401, text + NO_METADATA, "auth_error")


def poisoned_list() -> Refusal:
    """What a page of /key/list answers that holds such a key."""
    text = "Authentication Error, 1 validation error for UserAPIKeyAuth\n"
    return error(500, text + NO_METADATA, "internal_server_error")


def blocked_key() -> Refusal:
    text = "Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin."
    return error(401, text, "auth_error")


def blocked_team(team_id: str) -> Refusal:
    text = f"Authentication Error, Team={team_id} is blocked. Update via `/team/unblock`"
    return error(401, text, "auth_error")


def expired_key(name: str, expired: str, now: str) -> Refusal:
    text = f"Authentication Error - Expired Key. Key Expiry time {expired} and current time {now}"
    return error(401, text, "expired_key", name)


def admin_only(path: str) -> Refusal:
    text = (
        "Authentication Error, Only proxy admin can be used to generate, delete, update info for "
        f"new keys/users/teams. Route={path}. Your role=unknown. Your user_id=*******"
    )
    return error(401, text, "auth_error")


def route_not_allowed(allowed: list[str], path: str) -> Refusal:
    return detail(
        403,
        "Virtual key is not allowed to call this route. "
        f"Only allowed to call routes: {allowed}. Tried to call route: {path}",
    )


def model_not_allowed(owner: str, model: object) -> Refusal:
    """`owner` says whose list it is: key, user or team."""
    text = (
        f"The requested model '{model}' is not available for this API key, or the model name is "
        "invalid. Check the models available to you and try again."
    )
    return error(403, text, f"{owner}_model_access_denied", "model")


def unknown_model(model: object) -> Refusal:
    text = (
        f"/chat/completions: Invalid model name passed in model={model}. "
        "Call `/v1/models` to view available models for your key."
    )
    more = {"provider_specific_fields": {"error": text}}
    return error(400, text, "invalid_request_error", None, **more)


def budget_exceeded(text: str) -> Refusal:
    return error(422, text, "budget_exceeded", None)


def rate_limited(
    owner: str, name: str, rate_type: str, limit: int, remaining: int, window: int
) -> Refusal:
    """429. LiteLLM names a whole window as the wait, however much of it has passed."""
    reset = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + window))
    text = (
        f"Rate limit exceeded for {owner}: {name}. Limit type: {rate_type}. "
        f"Current limit: {limit}, Remaining: {max(0, remaining)}. Limit resets at: {reset}"
    )
    refusal = error(429, text, "throttling_error", None)
    refusal.rate_type = rate_type
    refusal.headers = [
        (b"retry-after", b"%d" % window),
        (b"rate_limit_type", rate_type.encode()),
        (b"reset_at", reset.encode()),
    ]
    return refusal


PROVIDER_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    422: "invalid_request_error",
    429: "throttling_error",
}


def provider_failed(status: int) -> bytes:
    """The body LiteLLM sends when the provider failed it: what a status fault answers."""
    return error(
        status,
        "litellm.InternalServerError: InternalServerError: OpenAIException - the provider failed"
        "\n\nLiteLLM: model group failed with the error above. No fallback was attempted.",
        PROVIDER_TYPES.get(status, "internal_server_error"),
        None,
    ).body

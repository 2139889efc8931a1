"""Who asks, and whether that key may ask this at all."""

import time
from typing import TYPE_CHECKING

from sandbox.asgi import Scope
from sandbox.litellm import errors
from sandbox.litellm.records import hash_of
from sandbox.litellm.views import View, start_new_budget_window, view_of

if TYPE_CHECKING:
    from sandbox.litellm.gateway import Gateway

# Which headers carry a key, and which of several counts: LiteLLM's own, then the usual one.
KEY_HEADERS = (b"x-litellm-api-key", b"authorization", b"x-api-key", b"api-key")
# A key with this among its allowed routes (key_type llm_api) calls models and nothing else.
LLM_ROUTES = "llm_api_routes"
MODEL_PATHS = frozenset(
    [
        *["/v1/chat/completions", "/chat/completions", "/v1/models", "/models"],
        *["/v1/model/info", "/model/info"],
    ]
)
MALFORMED = "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix."


def credential(scope: Scope) -> str | None:
    """The key that came with the request. Raises Refusal for a malformed header."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in KEY_HEADERS:
            found[name] = value
    for name in KEY_HEADERS:
        if name not in found:
            continue
        text = found[name].decode("latin-1")
        scheme, _, value = text.partition(" ")
        if scheme.lower() == "bearer" and value:
            return value
        if name == b"authorization" and scheme.lower() != "basic":
            raise errors.error(401, MALFORMED, "auth_error")
        return text
    return None


def caller_name(gateway: "Gateway", scope: Scope) -> str | None:
    """For the request log: `master`, or the hash of the key, real or not."""
    try:
        key = credential(scope)
    except errors.Refusal:
        return None
    if key is None:
        return None
    return "master" if key == gateway.settings.master_key else hash_of(key)


def authenticate(gateway: "Gateway", scope: Scope) -> View | None:
    """The caller's view; None is the master key. Raises Refusal.

    In LiteLLM's order: is there a key, is it one, is it blocked, expired, is the route allowed.
    """
    key = credential(scope)
    if key is None:
        raise errors.no_key()
    if key == gateway.settings.master_key:
        return None
    if not key.startswith("sk-"):
        raise errors.not_a_virtual_key()
    token = hash_of(key)
    view = current_view(gateway, token)
    now = time.time()
    if gateway.remembered.seconds:
        view = gateway.remembered.choose(token, view, now)
    if view is None:
        raise errors.unknown_key(f"sk-...{key[-4:]}", token)
    if view.key.metadata is None:
        raise errors.poisoned_key()
    if view.blocked:
        raise errors.blocked_key()
    if view.expires is not None and view.expires <= now:
        raise errors.expired_key(view.key.key_name, _utc(view.expires), _utc(now))
    if view.team_blocked and view.team is not None:
        raise errors.blocked_team(view.team.team_id)
    path = scope["path"]
    if view.allowed_routes and not _route_allowed(view.allowed_routes, path):
        raise errors.route_not_allowed(list(view.allowed_routes), path)
    if view.key.budget_reset_at is not None and start_new_budget_window(view.key, now):
        gateway.store.save_spend(view.key)
    return view


def current_view(gateway: "Gateway", token: str) -> View | None:
    store = gateway.store
    view = store.views.get(token)
    if view is None:
        key = store.keys.get(token)
        if key is None:
            return None
        view = store.views[token] = view_of(store, gateway.catalogue, key)
    return view


def require_admin(view: View | None, path: str) -> None:
    if view is not None:
        raise errors.admin_only(path)


def _route_allowed(allowed: tuple[str, ...], path: str) -> bool:
    return path in allowed or (LLM_ROUTES in allowed and path in MODEL_PATHS)


def _utc(moment: float) -> str:
    milliseconds = round(moment * 1000)
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}000+00:00"

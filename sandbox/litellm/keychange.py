"""What a request may set on a key, what is refused, and what else follows from it."""

import math
import secrets
import time
from typing import Any

from sandbox.litellm import errors, shapes
from sandbox.litellm.durations import DurationError, budget_reset, expiry
from sandbox.litellm.records import Budget, Key
from sandbox.litellm.store import Store

FIELDS = {
    **dict.fromkeys(["key_alias", "duration", "budget_duration", "budget_id"], "str"),
    **dict.fromkeys(["user_id", "team_id", "key_type"], "str"),
    **dict.fromkeys(["max_budget", "soft_budget", "spend"], "float"),
    **dict.fromkeys(["rpm_limit", "tpm_limit", "tpd_limit", "max_parallel_requests"], "limit"),
    **dict.fromkeys(["models", "allowed_routes", "access_group_ids", "tags", "guardrails"], "list"),
    **dict.fromkeys(["metadata", "aliases", "config", "permissions", "router_settings"], "dict"),
    **dict.fromkeys(["model_rpm_limit", "model_tpm_limit", "model_max_budget"], "dict"),
    **dict.fromkeys(["rpm_limit_type", "tpm_limit_type"], "str"),
    "enforced_params": "list",
    "blocked": "bool",
}
# Columns that a request sets as they are.
PLAIN = [
    *["max_budget", "rpm_limit", "tpm_limit", "tpd_limit", "max_parallel_requests", "budget_id"],
    *["blocked", "spend"],
]
# Columns that are never null: null makes them empty.
EMPTY: dict[str, type[list[Any]] | type[dict[str, Any]]] = {
    **dict.fromkeys(["models", "allowed_routes", "access_group_ids"], list),
    **dict.fromkeys(["aliases", "config", "permissions", "router_settings"], dict),
}
ROUTES_OF_TYPE = {
    "llm_api": "llm_api_routes",
    "management": "management_routes",
    "read_only": "info_routes",
}
ENTERPRISE = (
    "You must be a LiteLLM Enterprise user to use this feature. If you have a license please set "
    "`LITELLM_LICENSE` in your env. Get a 7 day trial key here: "
    "https://www.litellm.ai/enterprise#trial. \nPricing: https://www.litellm.ai/#pricing"
)


def change(store: Store, key: Key, given: dict[str, Any]) -> None:
    """Apply an update and save it. Raises Refusal, and then nothing has changed."""
    refuse_enterprise(given)
    refuse_budget_below_zero(given)
    refuse_taken_alias(store, given.get("key_alias"), key)
    if given.get("budget_id") is not None and given["budget_id"] not in store.budgets:
        text = (
            "Foreign key constraint failed on the field: "
            "`LiteLLM_VerificationToken_budget_id_fkey (index)`"
        )
        raise errors.error(400, text, "auth_error")
    if given.get("team_id") not in (None, key.team_id):
        refuse_team(store, given["team_id"], given.get("user_id", key.user_id))
    try:
        apply(store, key, given, at_creation=False)
    except DurationError as error:
        text = f"Authentication Error, {error}"
        raise errors.error(400, text, "auth_error") from None
    key.updated_at = key.settings_updated_at = time.time()
    store.save_key(key)


def apply(store: Store, key: Key, given: dict[str, Any], *, at_creation: bool) -> None:
    """Set the key's fields. Raises DurationError before any is set."""
    now = time.time()
    moments: dict[str, float | None] = {}
    if given.get("duration") is not None:
        moments["expires"] = expiry(given["duration"], now)
    elif "duration" in given:
        moments["expires"] = None
    if given.get("budget_duration") is not None:
        moments["budget_reset_at"] = budget_reset(given["budget_duration"], now)
    elif "budget_duration" in given:
        moments["budget_reset_at"] = None
    for name, moment in moments.items():
        setattr(key, name, moment)
    for name in ["budget_duration", *PLAIN]:
        if name in given:
            setattr(key, name, given[name])
    key.spend = key.spend or 0.0
    for name, empty in EMPTY.items():
        if name in given:
            setattr(key, name, given[name] if given[name] is not None else empty())
    apply_metadata(key, given)
    if given.get("soft_budget") is not None and key.budget_id is None:
        # It only alerts, never blocks, and lives in a budget row of the key's own.
        budget = Budget(budget_id=secrets.token_hex(16), soft_budget=given["soft_budget"])
        store.save_budget(budget)
        key.budget_id = budget.budget_id
    if given.get("key_type") is not None:
        key.key_type = given["key_type"]
        if key.key_type in ROUTES_OF_TYPE:
            key.allowed_routes = [ROUTES_OF_TYPE[key.key_type]]
    user_id, team_id = given.get("user_id", key.user_id), given.get("team_id", key.team_id)
    if at_creation:
        key.user_id, key.team_id, key.key_alias = user_id, team_id, given.get("key_alias")
        return
    if "key" in given and "key_alias" in given:
        store.rename_key(key, given["key_alias"])
    if (user_id, team_id) != (key.user_id, key.team_id):
        store.move_key(key, user_id=user_id, team_id=team_id)


def apply_metadata(key: Key, given: dict[str, Any]) -> None:
    if "metadata" in given:
        # An explicit null is stored, and then breaks the key and /key/list: errors.poisoned_key.
        key.metadata = given["metadata"]
    inside = {name: given[name] for name in shapes.METADATA_FIELDS if given.get(name) is not None}
    if inside:
        key.metadata = {**(key.metadata or {}), **inside}


def refuse_enterprise(given: dict[str, Any]) -> None:
    for name in ("tags", "guardrails"):
        if given.get(name):
            text = f"This feature is only available for LiteLLM Enterprise users: {name}. "
            raise errors.error(403, str({"error": text + ENTERPRISE}), "auth_error")
    if given.get("model_max_budget"):
        text = (
            "Invalid model_max_budget: You must have an enterprise license to set "
            f"model_max_budget. {ENTERPRISE}"
        )
        raise errors.error(500, text, "internal_server_error", None)


def refuse_budget_below_zero(given: dict[str, Any]) -> None:
    """Not a number and infinite are refused too; null is unlimited and 0 blocks."""
    budget = given.get("max_budget")
    if budget is not None and not (math.isfinite(budget) and budget >= 0):
        text = f"max_budget must be a non-negative finite number. Received: {budget}"
        raise errors.error(400, str({"error": text}), "auth_error")


def refuse_taken_alias(store: Store, alias: str | None, key: Key | None) -> None:
    others = set(store.tokens_by_alias.get(alias, ())) if alias is not None else set()
    if key is not None:
        others.discard(key.token)
    if others:
        text = (
            f"Key with alias '{alias}' already exists. "
            "Unique key aliases across all keys are required."
        )
        raise errors.error(400, text, "bad_request_error", "key_alias")


def refuse_team(store: Store, team_id: str, user_id: str | None) -> None:
    """A key with a user moves only to teams that the user is a member of."""
    team = store.teams.get(team_id)
    if team is None:
        raise unknown_team(team_id)
    if user_id is not None and user_id not in team.members:
        text = (
            f"User={user_id} is not a member of the team={team_id}. "
            "Check team members via `/team/info`."
        )
        raise errors.error(403, text, "auth_error")


def unknown_team(team_id: str) -> errors.Refusal:
    text = f"Team doesn't exist in db. Team={team_id}. Create team via `/team/new` call."
    return errors.error(404, str({"error": text}), "auth_error")

"""Reading keys: /key/info and /key/list."""

import time
from collections.abc import Callable
from typing import Any

from sandbox.litellm import errors, shapes
from sandbox.litellm.records import Key, token_of
from sandbox.litellm.requests import Request
from sandbox.litellm.schema import query_int
from sandbox.litellm.store import Store

SORTS: dict[str, Callable[[Key], Any]] = {
    "spend": lambda key: key.spend,
    "max_budget": lambda key: key.max_budget or 0.0,
    "created_at": lambda key: key.created_at,
    "updated_at": lambda key: key.updated_at,
    "token": lambda key: key.token,
    "key_alias": lambda key: key.key_alias or "",
}
STATUSES = ("active", "expired", "revoked", "deleted")


def info(request: Request) -> Any:
    """Answers for deleted keys too: being here is not being alive."""
    store = request.gateway.store
    name = request.query.get("key")
    if name is None and request.view is not None:
        name = request.view.key.token
    token = token_of(name or "")
    if request.view is not None and token != request.view.key.token:
        raise errors.error(403, "You are not allowed to access this key's info.", "auth_error")
    key = store.keys.get(token) or store.deleted.get(token)
    if key is None:
        raise errors.error(404, "Key not found in database", "not_found_error", "key")
    budget = store.budgets.get(key.budget_id) if key.budget_id else None
    return {"key": name, "info": shapes.key_info(key, budget)}


def list_keys(request: Request) -> Any:
    query, store = request.query, request.gateway.store
    page = query_int(query, "page", 1)
    size = query_int(query, "size", 10, high=100)
    check_words(query)
    if request.view is not None:
        user_id = request.view.key.user_id
        if user_id is None:
            text = (
                "You are not authorized to access this endpoint. "
                "No 'user_id' is associated with your API key."
            )
            raise errors.error(403, text, "bad_request_error", "user_id")
        query = {**query, "user_id": user_id}
    keys = wanted_keys(store, query)
    upwards = query.get("sort_order", "desc").lower() == "asc"
    if query.get("sort_by") == "created_at":
        keys = keys[::-1] if upwards else keys
    elif "sort_by" in query:
        keys = sorted(keys, key=SORTS[query["sort_by"]], reverse=not upwards)
    part = keys[(page - 1) * size : page * size]
    rows: list[Any] = [key.token for key in part]
    if query.get("return_full_object", "").lower() in ("true", "1"):
        rows = full_rows(store, part)
    return {
        "keys": rows,
        "total_count": len(keys),
        "current_page": page,
        "total_pages": -(-len(keys) // size),
    }


def wanted_keys(store: Store, query: dict[str, str]) -> list[Key]:
    """Newest first."""
    if "user_id" in query:
        keys = store.keys_of_user(query["user_id"])
    elif "team_id" in query:
        keys = store.keys_of_team(query["team_id"])
    elif "key_hash" in query:
        keys = [store.keys[token] for token in [query["key_hash"]] if token in store.keys]
    elif "key_alias" in query:
        tokens = store.tokens_by_alias.get(query["key_alias"], {})
        keys = [store.keys[token] for token in tokens]
    elif query.get("status") == "deleted":
        keys = list(store.deleted.values())[::-1]
    else:
        keys = store.listed()
    conditions: list[Callable[[Key], bool]] = []
    if "team_id" in query:
        conditions.append(lambda key: key.team_id == query["team_id"])
    if "key_alias" in query:
        conditions.append(lambda key: key.key_alias == query["key_alias"])
    if "access_group_id" in query:
        conditions.append(lambda key: query["access_group_id"] in key.access_group_ids)
    if "expired" in (query.get("status"), query.get("expires")):
        now = time.time()
        conditions.append(lambda key: key.expires is not None and key.expires <= now)
    if not conditions:
        return keys
    return [key for key in keys if all(condition(key) for condition in conditions)]


def full_rows(store: Store, keys: list[Key]) -> list[Any]:
    """One key whose metadata was set to null makes its whole page fail, as at LiteLLM."""
    if any(key.metadata is None for key in keys):
        raise errors.poisoned_list()
    budgets = store.budgets
    return [
        shapes.key_object(key, budgets.get(key.budget_id) if key.budget_id else None)
        for key in keys
    ]


def check_words(query: dict[str, str]) -> None:
    text = ""
    if query.get("status") not in (None, *STATUSES):
        names = ", ".join(f"'{status}'" for status in STATUSES)
        text = f"Invalid status value. Supported: {names}."
    elif query.get("expires") not in (None, "active", "expired"):
        text = "Invalid expires value. Supported: 'active', 'expired'."
    elif query.get("sort_by") not in (None, *SORTS):
        text = f"Invalid sort column. Must be one of: {', '.join(SORTS)}"
    if text:
        raise errors.error(400, str({"error": text}), "internal_server_error")

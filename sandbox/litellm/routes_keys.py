"""Virtual keys: /key/…"""

import asyncio
import secrets
import time
from typing import Any

from sandbox.litellm import errors, keychange, shapes
from sandbox.litellm.durations import DurationError, WindowError, iso
from sandbox.litellm.records import Key, hash_of, token_of
from sandbox.litellm.requests import Request
from sandbox.litellm.schema import check_object, parse_object
from sandbox.litellm.store import Store

WITH_KEY = {**keychange.FIELDS, "key": "str"}
BULK_FIELDS = {"key": "str", "budget_id": "str", "max_budget": "float", "team_id": "str"}
BULK_LIMIT = 500
# LiteLLM looks whether an alias is taken, and inserts some time later: keys made in between may
# share it.
LOOK_BEFORE_INSERT_SECONDS = 0.002


async def generate(request: Request) -> Any:
    """The row is an upsert that changes nothing: a value given twice answers as if it were new."""
    given = parse_object(request.body, WITH_KEY)
    store = request.gateway.store
    keychange.refuse_enterprise(given)
    value = given.get("key")
    if value is None:
        value = f"sk-{secrets.token_urlsafe(16)}"
    elif not value.startswith("sk-"):
        text = "Invalid key format. LiteLLM Virtual Key must start with 'sk-'. Received: ****"
        raise errors.error(400, str({"error": text}), "invalid_request_error")
    elif len(value) < 16:
        text = "Invalid key format. LiteLLM Virtual Key must be at least 16 characters long."
        raise errors.error(400, str({"error": text}), "invalid_request_error")
    keychange.refuse_budget_below_zero(given)
    keychange.refuse_taken_alias(store, given.get("key_alias"), None)
    await asyncio.sleep(LOOK_BEFORE_INSERT_SECONDS)
    key = Key(token=hash_of(value), key_name=f"sk-...{value[-4:]}")
    try:
        keychange.apply(store, key, given, at_creation=True)
    except WindowError as error:
        text = str({"error": str(error)})
        raise errors.error(400, text, "internal_server_error", None) from None
    except DurationError as error:
        raise errors.error(500, str(error), "internal_server_error", None) from None
    if key.budget_id is not None and key.budget_id not in store.budgets:
        text = "{'error': 'Internal Server Error.'}"
        raise errors.error(500, text, "internal_server_error", None)
    if key.team_id is not None and key.team_id not in store.teams:
        raise keychange.unknown_team(key.team_id)
    if key.token not in store.keys:
        store.add_key(key)
    return shapes.key_echo(key, given, value)


def update(request: Request) -> Any:
    """A merge patch: what is left out stays, null clears, metadata is replaced as a whole."""
    given = parse_object(request.body, WITH_KEY)
    selector = given.get("key") or given.get("key_alias")
    if selector is None:
        text = "Value error, either key or key_alias must be provided"
        raise errors.invalid("value_error", ["body"], text)
    key = find_for_update(request.gateway.store, given)
    keychange.change(request.gateway.store, key, given)
    return {"key": given.get("key") or key.token, "token": key.token, **shapes.key_row(key)}


def find_for_update(store: Store, given: dict[str, Any]) -> Key:
    if given.get("key"):
        return find(store, given["key"])
    alias = given["key_alias"]
    token = next(iter(store.tokens_by_alias.get(alias, ())), None)
    if token is None:
        text = f"Key not found. No key with key_alias='{alias}'."
        raise errors.error(404, text, "not_found_error", "key_alias")
    return store.keys[token]


def find(store: Store, key_or_hash: str) -> Key:
    key = store.keys.get(token_of(key_or_hash))
    if key is None:
        raise errors.error(404, "Key not found.", "not_found_error", "key")
    return key


def block(request: Request) -> Any:
    return shapes.key_object(set_blocked(request, blocked=True))


def unblock(request: Request) -> Any:
    key = set_blocked(request, blocked=False)
    return {"token": key.token, **shapes.key_row(key)}


def set_blocked(request: Request, *, blocked: bool) -> Key:
    given = parse_object(request.body, {"key": "str"}, ("key",))
    key = find(request.gateway.store, given["key"])
    key.blocked = blocked
    key.updated_at = key.settings_updated_at = time.time()
    request.gateway.store.save_key(key)
    return key


def delete(request: Request) -> Any:
    """Of known and unknown keys together it reports all as deleted; only unknown ones are 404."""
    given = parse_object(request.body, {"keys": "list", "key_aliases": "list"})
    names, aliases = given.get("keys") or [], given.get("key_aliases") or []
    if not names and not aliases:
        text = "Value error, At least one of 'keys' or 'key_aliases' must be provided."
        raise errors.invalid("value_error", ["body"], text)
    store = request.gateway.store
    tokens = {token_of(str(name)) for name in names}
    if not names:
        tokens = {token for alias in aliases for token in store.tokens_by_alias.get(alias, ())}
    found = [store.keys[token] for token in tokens if token in store.keys]
    if not found:
        raise errors.error(404, str({"error": "No keys found"}), "internal_server_error", None)
    for key in found:
        store.delete_key(key)
    store.journal.commit()
    return {"deleted_keys": names or aliases}


def bulk_update(request: Request) -> Any:
    given = parse_object(request.body, {"keys": "list"}, ("keys",))
    items = [
        check_object(item, BULK_FIELDS, ("key",), ["body", "keys", number])
        for number, item in enumerate(given["keys"])
    ]
    if not items:
        raise errors.detail_error(400, "No keys provided for update")
    if len(items) > BULK_LIMIT:
        text = f"Maximum {BULK_LIMIT} keys can be updated at once. Found {len(items)} keys."
        raise errors.detail_error(400, text)
    store = request.gateway.store
    done: list[Any] = []
    failed: list[Any] = []
    for item in items:
        key = store.keys.get(token_of(item["key"]))
        if key is None:
            reason = "Key not found."
            failed.append({"key": item["key"], "key_info": None, "failed_reason": reason})
            continue
        keychange.change(store, key, {name: item[name] for name in item if name != "key"})
        done.append({"key": item["key"], "key_info": shapes.key_row(key, zone="Z")})
    return {
        "total_requested": len(items),
        "successful_updates": done,
        "failed_updates": failed,
    }


def reset_spend(request: Request) -> Any:
    given = parse_object(request.body, {"reset_to": "float"}, ("reset_to",))
    store = request.gateway.store
    key = store.keys.get(token_of(request.name))
    if key is None:
        raise errors.detail_error(404, f"Key {request.name} not found.")
    target, before = given["reset_to"], key.spend
    if target < 0:
        raise errors.detail_error(400, "reset_to must be >= 0")
    if target > before:
        text = f"reset_to ({target}) must be <= current spend ({before})"
        raise errors.detail_error(400, text)
    key.spend = target
    store.save_key(key)
    return {
        "key_hash": key.token,
        "spend": target,
        "previous_spend": before,
        "max_budget": key.max_budget,
        "budget_reset_at": iso(key.budget_reset_at, zone="Z"),
    }


def regenerate(request: Request) -> Any:
    text = f"Regenerating Virtual Keys is an Enterprise feature, {keychange.ENTERPRISE}"
    raise errors.error(500, text, "internal_server_error", None)

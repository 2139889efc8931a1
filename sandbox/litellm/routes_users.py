"""Users: /user/… Their models, budget and limits bind their keys too."""

import secrets
import time
from typing import Any

from sandbox.litellm import errors, shapes
from sandbox.litellm.durations import DurationError, budget_reset
from sandbox.litellm.keychange import refuse_budget_below_zero
from sandbox.litellm.records import Key, User, hash_of
from sandbox.litellm.requests import Request
from sandbox.litellm.schema import parse_object, query_int

FIELDS = {
    **dict.fromkeys(["user_id", "user_email", "user_alias", "user_role"], "str"),
    **dict.fromkeys(["rpm_limit", "tpm_limit", "max_parallel_requests"], "limit"),
    "budget_duration": "str",
    "max_budget": "float",
    "models": "list",
    "metadata": "dict",
}
NEW_FIELDS = {**FIELDS, "auto_create_key": "bool"}
ROLES = {
    "PROXY_ADMIN": "proxy_admin",
    "PROXY_ADMIN_VIEW_ONLY": "proxy_admin_viewer",
    "INTERNAL_USER": "internal_user",
    "INTERNAL_USER_VIEW_ONLY": "internal_user_viewer",
}


def new(request: Request) -> Any:
    """Makes a key as well, unless told auto_create_key: false."""
    given = parse_object(request.body, NEW_FIELDS)
    store = request.gateway.store
    check(given)
    user_id = given.get("user_id") or secrets.token_hex(16)
    if user_id in store.users:
        raise taken(f"User with id {user_id} already exists")
    email = given.get("user_email")
    if email is not None and any(user.user_email == email for user in store.users.values()):
        raise taken(f"User with email {email} already exists")
    user = User(user_id=user_id)
    change(user, given)
    store.save_user(user)
    value = ""
    key = Key(token="", key_name="", user_id=user_id)
    if given.get("auto_create_key") is not False:
        value = f"sk-{secrets.token_urlsafe(16)}"
        key = Key(token=hash_of(value), key_name=f"sk-...{value[-4:]}", user_id=user_id)
        store.add_key(key)
    answer = shapes.key_echo(key, {}, value)
    if not value:
        answer.update(dict.fromkeys(["key_name", "key_type", "token", "token_id"]))
    shown = ("models", "max_budget", "budget_duration", "metadata", "rpm_limit", "tpm_limit")
    answer.update({name: getattr(user, name) for name in shown})
    answer.update(
        user_email=user.user_email, user_role=user.user_role, user_alias=user.user_alias, teams=None
    )
    return answer


def update(request: Request) -> Any:
    """An unknown user is created, not refused."""
    given = parse_object(request.body, FIELDS)
    check(given)
    store = request.gateway.store
    if not given.get("user_id") and not given.get("user_email"):
        raise errors.error(400, "Either user_id or user_email must be provided", "auth_error")
    user = store.users.get(given.get("user_id", ""))
    if user is None and "user_id" not in given:
        named = [u for u in store.users.values() if u.user_email == given["user_email"]]
        user = named[0] if named else None
    if user is None:
        user = User(user_id=given.get("user_id") or secrets.token_hex(16))
    change(user, given)
    user.updated_at = time.time()
    store.save_user(user)
    return {"user_id": user.user_id, "data": shapes.user_row(user)}


def info(request: Request) -> Any:
    store = request.gateway.store
    name = request.query.get("user_id", "")
    user = store.users.get(name)
    if user is None:
        raise errors.error(404, f"User {name} not found", "invalid_request_error", None)
    keys = [shapes.key_object(key) for key in store.keys_of_user(name)]
    return {"user_id": name, "user_info": shapes.user_row(user), "keys": keys, "teams": []}


def list_users(request: Request) -> Any:
    page = query_int(request.query, "page", 1)
    size = query_int(request.query, "page_size", 25, high=100)
    store = request.gateway.store
    users = list(store.users.values())
    if wanted := request.query.get("user_ids"):
        users = [user for user in users if user.user_id in wanted.split(",")]
    part = users[(page - 1) * size : page * size]
    rows = [
        {**shapes.user_row(user), "key_count": len(store.tokens_by_user.get(user.user_id, {}))}
        for user in part
    ]
    pages = -(-len(users) // size)
    return {
        "users": rows,
        "total": len(users),
        "page": page,
        "page_size": size,
        "total_pages": pages,
    }


def delete(request: Request) -> Any:
    """Their keys go with them."""
    given = parse_object(request.body, {"user_ids": "list"}, ("user_ids",))
    store = request.gateway.store
    for name in given["user_ids"]:
        if name not in store.users:
            raise errors.detail_error(404, f"User not found, passed user_id={name}")
    for name in given["user_ids"]:
        for key in store.keys_of_user(name):
            store.delete_key(key)
        del store.users[name]
        store.delete_shared("user", name)
    return len(given["user_ids"])


def check(given: dict[str, Any]) -> None:
    refuse_budget_below_zero(given)
    role = given.get("user_role")
    if role is not None and role not in ROLES.values():
        shown = [f"<LitellmUserRoles.{name}: '{value}'>" for name, value in ROLES.items()]
        text = f"Input should be {', '.join(shown[:-1])} or {shown[-1]}"
        raise errors.invalid("literal_error", ["body", "user_role"], text)


def change(user: User, given: dict[str, Any]) -> None:
    if "budget_duration" in given:
        duration = given["budget_duration"]
        try:
            user.budget_reset_at = budget_reset(duration, time.time()) if duration else None
        except DurationError as error:
            raise errors.error(400, str({"error": str(error)}), "auth_error") from None
    for name in FIELDS:
        if name in given and name != "user_id":
            value = given[name]
            if value is None and name in ("models", "metadata"):
                value = [] if name == "models" else {}
            setattr(user, name, value)


def taken(text: str) -> errors.Refusal:
    return errors.error(409, str({"error": text}), "invalid_request_error", None)

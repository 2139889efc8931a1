"""The stand-in as an ASGI app: chat by the shortest way, everything else by a table."""

import inspect
from collections.abc import Callable
from typing import Any

import orjson

from sandbox.asgi import ClientGone, Receive, Scope, Send, answer, answer_json, read_body
from sandbox.faults import Sandbox
from sandbox.litellm import (
    errors,
    routes_budgets,
    routes_info,
    routes_key_lists,
    routes_keys,
    routes_spend,
    routes_teams,
    routes_users,
)
from sandbox.litellm.access import authenticate, caller_name, credential, require_admin
from sandbox.litellm.chat import chat
from sandbox.litellm.gateway import Gateway
from sandbox.litellm.requests import Answer, Request
from sandbox.litellm.schema import parse_object, parse_query
from sandbox.litellm.settings import Settings

Handler = Callable[[Request], Any]
CHAT = ("/v1/chat/completions", "/chat/completions")

# No key needed.
OPEN: dict[tuple[str, str], Handler] = {
    ("GET", "/health/liveliness"): routes_info.alive,
    ("GET", "/health/liveness"): routes_info.alive,
    ("GET", "/health/readiness"): routes_info.ready,
}
# Any key, as far as its own affairs go. Model routes also ask for budget.
MODELS: dict[tuple[str, str], Handler] = {
    ("GET", "/v1/models"): routes_info.models,
    ("GET", "/models"): routes_info.models,
    ("GET", "/v1/model/info"): routes_info.model_info,
    ("GET", "/model/info"): routes_info.model_info,
}
OWN: dict[tuple[str, str], Handler] = {
    ("GET", "/health"): routes_info.health,
    ("GET", "/key/info"): routes_key_lists.info,
    ("GET", "/key/list"): routes_key_lists.list_keys,
    ("GET", "/user/daily/activity"): routes_spend.daily_activity,
    ("GET", "/user/daily/activity/aggregated"): routes_spend.daily_activity_aggregated,
}
ADMIN: dict[tuple[str, str], Handler] = {
    ("POST", "/key/generate"): routes_keys.generate,
    ("POST", "/key/update"): routes_keys.update,
    ("POST", "/key/delete"): routes_keys.delete,
    ("POST", "/key/block"): routes_keys.block,
    ("POST", "/key/unblock"): routes_keys.unblock,
    ("POST", "/key/bulk_update"): routes_keys.bulk_update,
    ("POST", "/key/regenerate"): routes_keys.regenerate,
    ("POST", "/budget/new"): routes_budgets.new_budget,
    ("POST", "/budget/update"): routes_budgets.update_budget,
    ("POST", "/budget/info"): routes_budgets.budget_info,
    ("POST", "/budget/delete"): routes_budgets.delete_budget,
    ("GET", "/budget/list"): routes_budgets.list_budgets,
    ("GET", "/budget/settings"): routes_budgets.budget_settings,
    ("POST", "/user/new"): routes_users.new,
    ("POST", "/user/update"): routes_users.update,
    ("POST", "/user/delete"): routes_users.delete,
    ("GET", "/user/info"): routes_users.info,
    ("GET", "/user/list"): routes_users.list_users,
    ("POST", "/team/new"): routes_teams.new_team,
    ("POST", "/team/update"): routes_teams.update_team,
    ("POST", "/team/delete"): routes_teams.delete_teams,
    ("POST", "/team/block"): routes_teams.block_team,
    ("POST", "/team/unblock"): routes_teams.unblock_team,
    ("POST", "/team/member_add"): routes_teams.add_team_member,
    ("GET", "/team/info"): routes_teams.team_info,
    ("GET", "/team/list"): routes_teams.list_teams,
    ("POST", "/v1/access_group"): routes_teams.new_group,
    ("GET", "/v1/access_group"): routes_teams.list_groups,
    ("GET", "/spend/logs"): routes_spend.logs,
    ("GET", "/spend/logs/v2"): routes_spend.logs_by_page,
}
# Paths with a name in them: what comes before it, what after.
NAMED: list[tuple[str, str, str, Handler]] = [
    ("POST", "/key/", "/reset_spend", routes_keys.reset_spend),
    ("POST", "/key/", "/regenerate", routes_keys.regenerate),
    ("GET", "/v1/models/", "", routes_info.model),
    ("GET", "/v1/access_group/", "", routes_teams.group_info),
    ("PUT", "/v1/access_group/", "", routes_teams.update_group),
    ("DELETE", "/v1/access_group/", "", routes_teams.delete_group),
]
ALL = {**OPEN, **MODELS, **OWN, **ADMIN}
PATHS = {path for _, path in ALL} | set(CHAT)


def build_app(settings: Settings) -> Sandbox:
    """The app for these settings, with faults and the request log around it.

    Raises CatalogueError for a configuration that cannot be read.
    """
    gateway = Gateway(settings)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(gateway, receive, send)
            return
        if scope["path"] in CHAT and scope["method"] == "POST":
            await chat(gateway, scope, receive, send)
            return
        await manage(gateway, scope, receive, send)

    def is_admin(scope: Scope) -> bool:
        try:
            return credential(scope) == settings.master_key
        except errors.Refusal:
            return False

    sandbox = Sandbox(
        app,
        authorize=is_admin,
        caller=lambda scope: caller_name(gateway, scope),
        envelope=errors.provider_failed,
        reset=gateway.reset,
    )
    gateway.faults = sandbox.book
    return sandbox


async def manage(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    """Everything but chat: one request, one JSON answer."""
    try:
        body = await read_body(receive)
        if scope["path"].startswith("/sandbox/"):
            value = control(gateway, scope, body)
        else:
            value = dispatch(gateway, scope, body)
        if inspect.isawaitable(value):
            value = await value
    except ClientGone:
        return
    except errors.Refusal as refusal:
        await answer(send, refusal.status, refusal.body, refusal.headers)
        return
    if isinstance(value, Answer):
        raw = orjson.dumps(value.value) if value.raw is None else value.raw
        await answer(send, value.status, raw, value.headers)
    else:
        await answer_json(send, 200, value)


def dispatch(gateway: Gateway, scope: Scope, body: bytes) -> Any:
    method, path = scope["method"], scope["path"]
    place = (method, path)
    request = Request(gateway, None, path, parse_query(scope["query_string"]), body)
    if place in OPEN:
        return OPEN[place](request)
    if path in ("/metrics", "/metrics/") and method == "GET":
        return metrics(request, scope)
    handler = ALL.get(place)
    if handler is None:
        handler, request.name = named(method, path)
    request.view = view = authenticate(gateway, scope)
    if place in MODELS:
        if view is not None and (refusal := view.refuse_budget()) is not None:
            raise refusal
    elif place not in OWN:
        require_admin(view, path)
    return handler(request)


def named(method: str, path: str) -> tuple[Handler, str]:
    """The handler of a path with a name in it, and the name. Raises Refusal (404 or 405)."""
    other_method = path in PATHS
    for wanted, prefix, suffix, handler in NAMED:
        name = path[len(prefix) : len(path) - len(suffix)]
        if path.startswith(prefix) and path.endswith(suffix) and name and "/" not in name:
            if method == wanted:
                return handler, name
            other_method = True
    if other_method:
        raise errors.detail(405, "Method Not Allowed")
    raise errors.detail(404, "Not Found")


def metrics(request: Request, scope: Scope) -> Any:
    gateway = request.gateway
    if gateway.catalogue.metrics_need_a_key:
        key = credential(scope)
        if key != gateway.settings.master_key:
            raise routes_info.metrics_refusal()
    if request.path == "/metrics":
        return routes_info.metrics_redirect(request)
    return routes_info.metrics(request)


def control(gateway: Gateway, scope: Scope, body: bytes) -> Any:
    """The sandbox's own controls, for the master key alone.

    GET  /sandbox/chats                         the last chat requests, as they came
    POST /sandbox/pace {"tokens_per_second"}    0: as fast as it can
    POST /sandbox/cache {"seconds"}             how long the imagined second process remembers
    """
    if credential(scope) != gateway.settings.master_key:
        raise errors.no_key()
    place = (scope["method"], scope["path"])
    if place == ("GET", "/sandbox/chats"):
        return {"chats": list(gateway.chats)}
    if place == ("POST", "/sandbox/pace"):
        name = "tokens_per_second"
        gateway.tokens_per_second = parse_object(body, {name: "float"}, (name,))[name]
        return {name: gateway.tokens_per_second}
    if place == ("POST", "/sandbox/cache"):
        gateway.remember_for(parse_object(body, {"seconds": "float"}, ("seconds",))["seconds"])
        return {"seconds": gateway.remembered.seconds}
    raise errors.detail(404, "Not Found")


async def lifespan(gateway: Gateway, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            gateway.close()
            await send({"type": "lifespan.shutdown.complete"})
            return

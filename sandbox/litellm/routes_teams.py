"""Teams and access groups, which lend models and limits to keys: /team/…, /v1/access_group/…"""

import secrets
import time
from typing import Any

from sandbox.litellm import errors, shapes
from sandbox.litellm.keychange import refuse_budget_below_zero
from sandbox.litellm.records import AccessGroup, Team
from sandbox.litellm.requests import Answer, Request
from sandbox.litellm.schema import parse_object

TEAM_FIELDS = {
    **dict.fromkeys(["team_id", "team_alias"], "str"),
    **dict.fromkeys(["rpm_limit", "tpm_limit", "max_parallel_requests"], "limit"),
    "max_budget": "float",
    "models": "list",
    "metadata": "dict",
    "blocked": "bool",
}
GROUP_FIELDS = {
    **dict.fromkeys(["access_group_name", "description"], "str"),
    "access_model_names": "list",
}


def new_team(request: Request) -> Any:
    given = parse_object(request.body, TEAM_FIELDS)
    store = request.gateway.store
    team_id = given.get("team_id") or secrets.token_hex(16)
    if team_id in store.teams:
        text = f"Team id = {team_id} already exists. Please use a different team id."
        raise errors.error(400, str({"error": text}), "internal_server_error", None)
    refuse_budget_below_zero(given)
    team = Team(team_id=team_id)
    change_team(team, given)
    store.save_team(team)
    return shapes.team_row(team)


def update_team(request: Request) -> Any:
    given = parse_object(request.body, TEAM_FIELDS, ("team_id",))
    refuse_budget_below_zero(given)
    store = request.gateway.store
    team = store.teams.get(given["team_id"])
    if team is None:
        text = f"Team not found, passed team_id={given['team_id']}"
        raise errors.error(404, str({"error": text}), "internal_server_error", None)
    change_team(team, given)
    team.updated_at = time.time()
    store.save_team(team)
    return {"team_id": team.team_id, "data": shapes.team_row(team)}


def change_team(team: Team, given: dict[str, Any]) -> None:
    for name in TEAM_FIELDS:
        if name in given and name != "team_id":
            value = given[name]
            if value is None and name in ("models", "metadata", "blocked"):
                value = {"models": [], "metadata": {}, "blocked": False}[name]
            setattr(team, name, value)


def add_team_member(request: Request) -> Any:
    given = parse_object(request.body, {"team_id": "str", "member": "dict"}, ("team_id", "member"))
    team = find_team(request, given["team_id"])
    user_id = given["member"].get("user_id")
    if user_id in team.members:
        text = f"User already in team. Member: user_id={user_id}"
        raise errors.error(400, text, "team_member_already_in_team", "member")
    team.members.append(user_id)
    request.gateway.store.save_team(team)
    return shapes.team_row(team)


def find_team(request: Request, team_id: str) -> Team:
    team = request.gateway.store.teams.get(team_id)
    if team is None:
        text = f"Team not found, passed team id: {team_id}."
        raise errors.error(404, str({"message": text}), "auth_error")
    return team


def team_info(request: Request) -> Any:
    team = find_team(request, request.query.get("team_id", ""))
    store = request.gateway.store
    keys = [shapes.key_object(key) for key in store.keys_of_team(team.team_id)]
    return {"team_id": team.team_id, "team_info": shapes.team_row(team), "keys": keys}


def list_teams(request: Request) -> Any:
    return [shapes.team_row(team) for team in request.gateway.store.teams.values()]


def block_team(request: Request) -> Any:
    """At LiteLLM not in force before the key cache runs out; by /team/update it is at once."""
    return set_team_blocked(request, blocked=True)


def unblock_team(request: Request) -> Any:
    return set_team_blocked(request, blocked=False)


def set_team_blocked(request: Request, *, blocked: bool) -> Any:
    given = parse_object(request.body, {"team_id": "str"}, ("team_id",))
    team = find_team(request, given["team_id"])
    team.blocked = blocked
    request.gateway.store.save_team(team)
    return shapes.team_row(team)


def delete_teams(request: Request) -> Any:
    """Their keys go with them."""
    given = parse_object(request.body, {"team_ids": "list"}, ("team_ids",))
    store = request.gateway.store
    teams = [find_team(request, name) for name in given["team_ids"]]
    for team in teams:
        for key in store.keys_of_team(team.team_id):
            store.delete_key(key)
        del store.teams[team.team_id]
        store.delete_shared("team", team.team_id)
    return {"deleted_teams": given["team_ids"]}


def new_group(request: Request) -> Any:
    given = parse_object(request.body, GROUP_FIELDS, ("access_group_name",))
    store = request.gateway.store
    name = given["access_group_name"]
    if any(group.access_group_name == name for group in store.groups.values()):
        raise errors.detail(409, f"Access group '{name}' already exists")
    group = AccessGroup(access_group_id=secrets.token_hex(16), access_group_name=name)
    change_group(group, given)
    store.save_group(group)
    return Answer(status=201, value=shown_group(request, group))


def update_group(request: Request) -> Any:
    given = parse_object(request.body, GROUP_FIELDS)
    group = find_group(request)
    change_group(group, given)
    group.updated_at = time.time()
    request.gateway.store.save_group(group)
    return shown_group(request, group)


def change_group(group: AccessGroup, given: dict[str, Any]) -> None:
    for name in GROUP_FIELDS:
        if given.get(name) is not None:
            setattr(group, name, given[name])


def group_info(request: Request) -> Any:
    return shown_group(request, find_group(request))


def list_groups(request: Request) -> Any:
    return [shown_group(request, group) for group in request.gateway.store.groups.values()]


def delete_group(request: Request) -> Any:
    group = find_group(request)
    store = request.gateway.store
    for key in store.keys.values():
        if group.access_group_id in key.access_group_ids:
            key.access_group_ids.remove(group.access_group_id)
            store.save_spend(key)
    del store.groups[group.access_group_id]
    store.delete_shared("group", group.access_group_id)
    return Answer(status=204, raw=b"")


def find_group(request: Request) -> AccessGroup:
    group = request.gateway.store.groups.get(request.name)
    if group is None:
        raise errors.detail(404, f"Access group '{request.name}' not found")
    return group


def shown_group(request: Request, group: AccessGroup) -> Any:
    keys = request.gateway.store.keys.values()
    tokens = [key.token for key in keys if group.access_group_id in key.access_group_ids]
    return shapes.group_row(group, tokens)

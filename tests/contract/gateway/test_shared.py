"""What makes an edit of a plan one call instead of one per key: budget rows and teams.

Enforcement is immediate in the process that took the call; what another process remembers, or this
one of a budget row, holds until its key cache runs out.
"""

import pytest

from tests.contract.gateway.conftest import (
    AT_ONCE,
    ON_FREE,
    ON_PLUS,
    ON_PRO,
    Gateway,
    VirtualKey,
    unique,
    until,
)

pytestmark = pytest.mark.contract


def rpm_in_force(gateway: Gateway, key: VirtualKey) -> str | None:
    limit: str | None = gateway.chat(key).headers.get("x-litellm-key-rpm-limit")
    return limit


def all_obey(gateway: Gateway, keys: list[VirtualKey], rpm: str) -> bool:
    return all(rpm_in_force(gateway, key) == rpm for key in keys)


def all_may_call(gateway: Gateway, keys: list[VirtualKey], model: str) -> bool:
    return all(gateway.chat(key, model).status_code == 200 for key in keys)


def test_budget_row_is_stored_read_and_patched(gateway: Gateway) -> None:
    name = unique("budget")
    fields = {"rpm_limit": 20, "tpm_limit": 20000, "max_budget": None}
    answer = gateway.post("/budget/new", budget_id=name, **fields)
    assert answer.status_code == 200
    assert answer.json() | fields == answer.json()
    again = gateway.post("/budget/new", budget_id=name, rpm_limit=1)
    assert again.status_code == 400
    assert "already exists" in again.json()["detail"]["error"]
    patched = gateway.post("/budget/update", budget_id=name, rpm_limit=30).json()
    assert (patched["rpm_limit"], patched["tpm_limit"]) == (30, 20000)
    cleared = gateway.post("/budget/update", budget_id=name, tpm_limit=None).json()
    assert (cleared["rpm_limit"], cleared["tpm_limit"]) == (30, None)
    found = gateway.post("/budget/info", budgets=[name]).json()
    assert [row["budget_id"] for row in found] == [name]
    assert found[0]["rpm_limit"] == 30
    assert gateway.post("/budget/delete", id=name).json()["budget_id"] == name


def test_unknown_budget_rows_are_no_error(gateway: Gateway) -> None:
    name = unique("none")
    answer = gateway.post("/budget/update", budget_id=name, rpm_limit=1)
    assert (answer.status_code, answer.json()) == (200, None)
    assert gateway.post("/budget/info", budgets=[name]).json() == []
    assert gateway.get("/budget/info", budget_id=name).status_code == 405


def test_key_obeys_the_rates_of_its_budget_row(gateway: Gateway) -> None:
    key = gateway.key(budget_id=gateway.budget(rpm_limit=2, tpm_limit=50000))
    first = gateway.chat(key)
    assert first.headers["x-litellm-key-rpm-limit"] == "2"
    assert first.headers["x-litellm-key-tpm-limit"] == "50000"
    assert gateway.chat(key).status_code == 200
    third = gateway.chat(key)
    assert third.status_code == 429
    assert third.headers["rate_limit_type"] == "requests"
    row = gateway.row(key)
    assert (row["rpm_limit"], row["tpm_limit"]) == (None, None)
    assert row["litellm_budget_table"]["rpm_limit"] == 2


def test_budget_row_counts_each_key_for_itself(gateway: Gateway) -> None:
    budget = gateway.budget(rpm_limit=1)
    for _ in range(2):
        assert gateway.chat(gateway.key(budget_id=budget)).status_code == 200


def test_key_obeys_the_money_of_its_budget_row(gateway: Gateway) -> None:
    key = gateway.key(budget_id=gateway.budget(max_budget=0))
    assert gateway.chat(key).status_code == 422


def test_parallel_limit_of_a_budget_row_is_not_enforced(gateway: Gateway) -> None:
    """It has the column, but a key's look-up does not read it: the limit belongs on the key."""
    key = gateway.key(budget_id=gateway.budget(max_parallel_requests=0))
    assert gateway.chat(key).status_code == 200


def test_own_value_of_a_key_goes_before_its_budget_row(gateway: Gateway) -> None:
    budget = gateway.budget(rpm_limit=50, max_budget=0)
    key = gateway.key(budget_id=budget, rpm_limit=70, max_budget=1)
    assert rpm_in_force(gateway, key) == "70"
    gateway.post("/key/update", key=key.hash, rpm_limit=None)
    until(lambda: rpm_in_force(gateway, key) == "50", within=AT_ONCE)


def test_moving_a_key_to_another_budget_row_is_in_force_at_once(gateway: Gateway) -> None:
    free, pro = gateway.budget(rpm_limit=50), gateway.budget(rpm_limit=90)
    key = gateway.key(budget_id=free)
    assert rpm_in_force(gateway, key) == "50"
    gateway.post("/key/update", key=key.hash, budget_id=pro)
    until(lambda: rpm_in_force(gateway, key) == "90", within=AT_ONCE)
    gateway.post("/key/update", key=key.hash, budget_id=None)
    until(lambda: rpm_in_force(gateway, key) is None, within=AT_ONCE)
    assert gateway.row(key)["budget_id"] is None


def test_edit_of_a_budget_row_reaches_its_keys_within_the_cache_time(gateway: Gateway) -> None:
    budget = gateway.budget(rpm_limit=50)
    keys = [gateway.key(budget_id=budget) for _ in range(3)]
    assert {rpm_in_force(gateway, key) for key in keys} == {"50"}
    gateway.post("/budget/update", budget_id=budget, rpm_limit=1000)
    until(lambda: all_obey(gateway, keys, "1000"), within=gateway.cache_ttl + 3)


def test_deleting_a_budget_row_leaves_its_keys_without_limits(gateway: Gateway) -> None:
    budget = gateway.budget(rpm_limit=1)
    key = gateway.key(budget_id=budget)
    gateway.post("/budget/delete", id=budget)
    assert gateway.row(key)["budget_id"] is None
    assert gateway.chat(key).status_code == 200
    assert gateway.chat(key).status_code == 200


def test_team_lends_its_models_to_its_keys(gateway: Gateway) -> None:
    key = gateway.key(models=["all-team-models"], team_id=gateway.team(ON_FREE, ON_PLUS))
    assert gateway.chat(key, ON_PLUS).status_code == 200
    refusal = gateway.chat(key, ON_PRO)
    assert refusal.status_code == 403
    assert refusal.json()["error"]["type"] == "team_model_access_denied"
    listed = gateway.ask("GET", "/v1/models", key=key).json()["data"]
    assert {row["id"] for row in listed} == {ON_FREE, ON_PLUS}


def test_team_may_name_an_access_group(gateway: Gateway) -> None:
    key = gateway.key(models=["all-team-models"], team_id=gateway.team("plan-free"))
    assert gateway.chat(key, ON_FREE).status_code == 200
    assert gateway.chat(key, ON_PLUS).status_code == 403


def test_S15_team_with_an_empty_list_opens_everything(gateway: Gateway) -> None:
    team = gateway.team(ON_FREE)
    key = gateway.key(models=["all-team-models"], team_id=team)
    gateway.post("/team/update", team_id=team, models=[])
    until(lambda: gateway.chat(key, ON_PRO).status_code == 200, within=AT_ONCE)
    gateway.post("/team/update", team_id=team, models=["no-default-models"])
    until(lambda: gateway.chat(key, ON_FREE).status_code == 403, within=AT_ONCE)
    assert gateway.chat(key, ON_PRO).status_code == 403


def test_team_models_edited_once_hold_for_all_its_keys(gateway: Gateway) -> None:
    team = gateway.team(ON_FREE)
    keys = [gateway.key(models=["all-team-models"], team_id=team) for _ in range(3)]
    assert {gateway.chat(key, ON_PLUS).status_code for key in keys} == {403}
    answer = gateway.post("/team/update", team_id=team, models=[ON_PLUS])
    assert answer.status_code == 200
    assert answer.json()["data"]["models"] == [ON_PLUS]
    until(lambda: all_may_call(gateway, keys, ON_PLUS), within=gateway.cache_ttl + 2)
    assert {gateway.chat(key, ON_FREE).status_code for key in keys} == {403}


def test_moving_a_key_without_user_to_another_team_is_in_force_at_once(gateway: Gateway) -> None:
    free, pro = gateway.team("plan-free"), gateway.team("plan-pro")
    key = gateway.key(models=["all-team-models"], team_id=free)
    assert gateway.chat(key, ON_PRO).status_code == 403
    assert gateway.post("/key/update", key=key.hash, team_id=pro).status_code == 200
    until(lambda: gateway.chat(key, ON_PRO).status_code == 200, within=AT_ONCE)
    assert gateway.row(key)["team_id"] == pro


def test_key_of_a_user_moves_only_to_teams_with_that_user(gateway: Gateway) -> None:
    free, pro = gateway.team(ON_FREE), gateway.team(ON_PRO)
    key = gateway.key(models=["all-team-models"], team_id=free, user_id=unique("user"))
    assert gateway.post("/key/update", key=key.hash, team_id=pro).status_code == 403
    assert gateway.row(key)["team_id"] == free


def test_team_limits_count_all_its_keys_together(gateway: Gateway) -> None:
    team = gateway.team(ON_FREE)
    gateway.post("/team/update", team_id=team, rpm_limit=1)
    first = gateway.key(models=["all-team-models"], team_id=team)
    second = gateway.key(models=["all-team-models"], team_id=team)
    assert gateway.chat(first).status_code == 200
    assert gateway.chat(second).status_code == 429


def test_team_update_reads_patches_and_refuses_the_unknown(gateway: Gateway) -> None:
    team = gateway.team(ON_FREE)
    fields = {"blocked": False, "max_budget": None, "rpm_limit": None, "tpm_limit": None}
    answer = gateway.post("/team/update", team_id=team, **fields, metadata={"plan": "free"})
    assert answer.status_code == 200
    row = gateway.post("/team/update", team_id=team).json()["data"]
    expected = {**fields, "models": [ON_FREE], "metadata": {"plan": "free"}, "team_alias": team}
    assert {name: row[name] for name in expected} == expected
    assert gateway.post("/team/update", team_id=unique("none")).status_code == 404
    again = gateway.post("/team/new", team_id=team, models=[ON_PRO])
    assert again.status_code == 400
    assert "already exists" in again.json()["error"]["message"]
    assert gateway.get("/team/info", team_id=unique("none")).status_code == 404


def test_team_blocked_by_update_is_in_force_at_once(gateway: Gateway) -> None:
    team = gateway.team(ON_FREE)
    key = gateway.key(models=["all-team-models"], team_id=team)
    assert gateway.chat(key).status_code == 200
    gateway.post("/team/update", team_id=team, blocked=True)
    until(lambda: gateway.chat(key).status_code == 401, within=AT_ONCE)
    gateway.post("/team/update", team_id=team, blocked=False)
    until(lambda: gateway.chat(key).status_code == 200, within=AT_ONCE)


def test_unknown_team_is_refused_for_a_key(gateway: Gateway) -> None:
    key = gateway.key()
    answer = gateway.post("/key/update", key=key.hash, team_id=unique("none"))
    assert answer.status_code == 404
    # What tells it from a key that is not there.
    assert "Create team via" in answer.text
    assert gateway.row(key)["team_id"] is None


def test_deleting_a_team_deletes_its_keys(gateway: Gateway) -> None:
    team = gateway.team(ON_FREE)
    key = gateway.key(models=["all-team-models"], team_id=team)
    assert gateway.post("/team/delete", team_ids=[team]).status_code == 200
    assert gateway.row(key)["status"] == "deleted"


def test_access_group_object_lends_models_too(gateway: Gateway) -> None:
    answer = gateway.post(
        "/v1/access_group", access_group_name=unique("group"), access_model_names=[ON_FREE]
    )
    assert answer.status_code == 201
    group = answer.json()["access_group_id"]
    key = gateway.key(models=["no-default-models"], access_group_ids=[group])
    assert gateway.chat(key, ON_FREE).status_code == 200
    assert gateway.chat(key, ON_PRO).status_code == 403
    gateway.ask("PUT", f"/v1/access_group/{group}", {"access_model_names": [ON_PRO]})
    until(lambda: gateway.chat(key, ON_PRO).status_code == 200, within=gateway.cache_ttl + 2)
    # It lists every key that names it: with a hundred thousand keys each change rewrites that row.
    assert gateway.get(f"/v1/access_group/{group}").json()["assigned_key_ids"] == [key.hash]
    assert gateway.ask("DELETE", f"/v1/access_group/{group}").status_code == 204
    assert gateway.row(key)["access_group_ids"] == []

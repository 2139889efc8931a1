"""Users at the gateway. We do without them (a key with a user cannot change teams); what they
bind must be known all the same."""

import pytest

from tests.contract.gateway.conftest import ON_FREE, ON_PRO, Gateway, unique, until

pytestmark = pytest.mark.contract


def test_user_is_made_once_and_found(gateway: Gateway) -> None:
    user = unique("user")
    fields = {"user_id": user, "auto_create_key": False, "max_budget": 3}
    answer = gateway.post("/user/new", **fields)
    assert answer.status_code == 200
    assert answer.json()["key"] == ""
    assert gateway.post("/user/new", **fields).status_code == 409
    found = gateway.get("/user/info", user_id=user).json()
    assert found["user_info"]["max_budget"] == 3
    assert found["keys"] == []
    assert gateway.post("/user/delete", user_ids=[user]).status_code == 200
    assert gateway.get("/user/info", user_id=user).status_code == 404
    assert gateway.post("/user/delete", user_ids=[user]).status_code == 404


def test_new_user_gets_a_key_unless_told_otherwise(gateway: Gateway) -> None:
    user = unique("user")
    value = gateway.post("/user/new", user_id=user).json()["key"]
    assert value.startswith("sk-")
    assert gateway.get("/key/list", user_id=user).json()["total_count"] == 1
    gateway.post("/user/delete", user_ids=[user])
    assert gateway.get("/key/list", user_id=user).json()["total_count"] == 0


def test_update_makes_an_unknown_user(gateway: Gateway) -> None:
    user = unique("user")
    answer = gateway.post("/user/update", user_id=user, max_budget=4)
    assert answer.status_code == 200
    assert answer.json()["data"]["max_budget"] == 4
    assert gateway.get("/user/info", user_id=user).status_code == 200
    gateway.post("/user/delete", user_ids=[user])


def test_unknown_role_is_refused(gateway: Gateway) -> None:
    assert gateway.post("/user/new", user_id=unique("user"), user_role="king").status_code == 422


def test_models_and_budget_of_a_user_bind_its_keys(gateway: Gateway) -> None:
    user = unique("user")
    gateway.post("/user/new", user_id=user, models=[ON_FREE], auto_create_key=False)
    key = gateway.key(user_id=user)
    assert gateway.chat(key, ON_FREE).status_code == 200
    refusal = gateway.chat(key, ON_PRO)
    assert refusal.status_code == 403
    assert refusal.json()["error"]["type"] == "user_model_access_denied"
    gateway.post("/user/update", user_id=user, max_budget=0)
    until(lambda: gateway.chat(key, ON_FREE).status_code == 422, within=gateway.cache_ttl + 3)
    gateway.post("/user/delete", user_ids=[user])

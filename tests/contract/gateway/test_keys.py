"""What the gateway does with virtual keys, as far as we rely on it."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.contract.gateway.conftest import (
    ON_FREE,
    ON_PRO,
    Gateway,
    Json,
    VirtualKey,
    new_value,
    unique,
)

pytestmark = pytest.mark.contract


def error_of(answer: httpx.Response) -> Json:
    return dict(answer.json()["error"])


def test_key_with_our_value_is_stored_under_its_hash(gateway: Gateway) -> None:
    key = new_value()
    fields = {
        "key_alias": unique("alias"),
        "models": ["plan-free"],
        "max_budget": 5,
        "rpm_limit": 20,
        "tpm_limit": 20000,
        "max_parallel_requests": 4,
        "key_type": "llm_api",
        "metadata": {"managed_by": "tests", "key": 7},
    }
    answer = gateway.post("/key/generate", key=key.value, **fields)
    assert answer.status_code == 200
    assert answer.json()["key"] == key.value
    assert answer.json()["token"] == key.hash
    row = gateway.row(key)
    expected = {**fields, "allowed_routes": ["llm_api_routes"], "spend": 0, "status": "active"}
    assert {name: row[name] for name in expected} == expected
    assert row["key_name"] == f"sk-...{key.value[-4:]}"
    assert gateway.chat(key).status_code == 200


def test_S04_same_value_again_is_accepted_and_changes_nothing(gateway: Gateway) -> None:
    key = gateway.key(models=["plan-free"], rpm_limit=5)
    again = gateway.post("/key/generate", key=key.value, models=["plan-pro"], rpm_limit=9)
    assert again.status_code == 200
    assert again.json()["models"] == ["plan-pro"]  # the answer repeats the request …
    row = gateway.row(key)
    assert (row["models"], row["rpm_limit"]) == (["plan-free"], 5)  # … not the row


def test_S04_same_value_at_once_makes_one_key(gateway: Gateway) -> None:
    key = new_value()
    gateway.made.append(key.hash)

    def generate(_: int) -> int:
        return gateway.post("/key/generate", key=key.value, models=[ON_FREE]).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(generate, range(6))) == {200}
    assert gateway.get("/key/list", key_hash=key.hash).json()["total_count"] == 1


def test_taken_alias_is_refused_before_anything_else(gateway: Gateway) -> None:
    alias = unique("alias")
    key = gateway.key(key_alias=alias)
    for body in ({"key": new_value().value}, {"key": key.value}):
        answer = gateway.post("/key/generate", key_alias=alias, **body)
        assert answer.status_code == 400
        assert error_of(answer)["type"] == "bad_request_error"
        assert error_of(answer)["param"] == "key_alias"
    other = gateway.key()
    answer = gateway.post("/key/update", key=other.hash, key_alias=alias)
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "key_alias"
    assert gateway.row(other)["key_alias"] is None


def test_alias_is_free_again_once_its_key_is_deleted(gateway: Gateway) -> None:
    alias = unique("alias")
    first = gateway.key(key_alias=alias)
    gateway.post("/key/delete", keys=[first.hash])
    second = gateway.key(key_alias=alias)
    assert gateway.row(second)["key_alias"] == alias


@pytest.mark.parametrize("value", ["sk-short", "no-prefix-but-long-enough"])
def test_value_too_short_or_without_prefix_is_refused(gateway: Gateway, value: str) -> None:
    assert gateway.post("/key/generate", key=value).status_code == 400


def test_update_changes_what_is_sent_and_nothing_else(gateway: Gateway) -> None:
    alias = unique("alias")
    key = gateway.key(
        models=["plan-free"], rpm_limit=5, tpm_limit=500, max_budget=1, key_alias=alias
    )
    before = gateway.row(key)
    answer = gateway.post("/key/update", key=key.hash, rpm_limit=6)
    assert answer.status_code == 200
    assert answer.json()["rpm_limit"] == 6
    assert answer.json()["token"] == key.hash
    after = gateway.row(key)
    moving = {"rpm_limit", "updated_at", "settings_updated_at"}
    assert {n: v for n, v in after.items() if n not in moving} == {
        n: v for n, v in before.items() if n not in moving
    }


def test_S15_explicit_null_clears_a_limit(gateway: Gateway) -> None:
    key = gateway.key(rpm_limit=5, tpm_limit=500, max_parallel_requests=2, max_budget=1)
    cleared = ["rpm_limit", "tpm_limit", "max_parallel_requests", "max_budget"]
    assert gateway.post("/key/update", key=key.hash, **dict.fromkeys(cleared)).status_code == 200
    row = gateway.row(key)
    assert {name: row[name] for name in cleared} == dict.fromkeys(cleared)


def test_update_replaces_metadata_as_a_whole(gateway: Gateway) -> None:
    key = gateway.key(metadata={"a": 1, "b": {"c": 2}})
    gateway.post("/key/update", key=key.hash, metadata={"b": 3})
    assert gateway.row(key)["metadata"] == {"b": 3}


def test_update_by_value_and_by_alias_alone(gateway: Gateway) -> None:
    alias = unique("alias")
    key = gateway.key(key_alias=alias)
    assert gateway.post("/key/update", key=key.value, rpm_limit=1).status_code == 200
    assert gateway.post("/key/update", key_alias=alias, tpm_limit=2).status_code == 200
    row = gateway.row(key)
    assert (row["rpm_limit"], row["tpm_limit"], row["key_alias"]) == (1, 2, alias)
    assert gateway.post("/key/update", rpm_limit=1).status_code == 422


def test_unknown_keys_are_404_everywhere(gateway: Gateway) -> None:
    stranger = new_value()
    for answer in (
        gateway.get("/key/info", key=stranger.hash),
        gateway.post("/key/update", key=stranger.hash, rpm_limit=1),
        gateway.post("/key/block", key=stranger.hash),
        gateway.post("/key/unblock", key=stranger.hash),
    ):
        assert answer.status_code == 404
        assert error_of(answer)["type"] == "not_found_error"
    assert gateway.post("/key/delete", keys=[stranger.hash]).status_code == 404
    assert gateway.post(f"/key/{stranger.hash}/reset_spend", reset_to=0).status_code == 404


def test_S10_info_of_a_deleted_key_is_200_and_says_so(gateway: Gateway) -> None:
    key = gateway.key(models=["plan-free"], metadata={"n": 1})
    answer = gateway.post("/key/delete", keys=[key.hash])
    assert answer.status_code == 200
    assert answer.json() == {"deleted_keys": [key.hash]}
    row = gateway.row(key)
    assert (row["status"], row["metadata"], row["spend"]) == ("deleted", {"n": 1}, 0)
    assert gateway.post("/key/delete", keys=[key.hash]).status_code == 404
    assert gateway.post("/key/update", key=key.hash, rpm_limit=1).status_code == 404


def test_S09_deleted_key_can_be_made_again_with_the_same_value(gateway: Gateway) -> None:
    key = gateway.key(models=["plan-free"])
    gateway.post("/key/delete", keys=[key.hash])
    assert gateway.post("/key/generate", key=key.value, models=["plan-pro"]).status_code == 200
    row = gateway.row(key)
    assert (row["status"], row["models"]) == ("active", ["plan-pro"])
    assert gateway.chat(key, ON_PRO).status_code == 200


def test_delete_of_known_and_unknown_together_claims_both(gateway: Gateway) -> None:
    key, stranger = gateway.key(), new_value()
    answer = gateway.post("/key/delete", keys=[key.hash, stranger.hash])
    assert answer.status_code == 200
    assert answer.json()["deleted_keys"] == [key.hash, stranger.hash]


def test_block_and_unblock_can_be_repeated(gateway: Gateway) -> None:
    key = gateway.key()
    for path, blocked in (("block", True), ("block", True), ("unblock", False), ("unblock", False)):
        answer = gateway.post(f"/key/{path}", key=key.hash)
        assert answer.status_code == 200
        assert answer.json()["blocked"] is blocked
        assert gateway.row(key)["blocked"] is blocked
    gateway.post("/key/update", key=key.hash, blocked=True)
    assert gateway.row(key)["blocked"] is True


def test_duration_sets_expiry_from_now_and_null_clears_it(gateway: Gateway) -> None:
    key = gateway.key(duration="1d")
    first = gateway.row(key)["expires"]
    gateway.post("/key/update", key=key.hash, duration="1d")
    second = gateway.row(key)["expires"]
    assert second > first
    gateway.post("/key/update", key=key.hash, duration=None)
    assert gateway.row(key)["expires"] is None


@pytest.mark.parametrize("window", ["30d", "1mo"])
def test_budget_windows_of_a_month_end_with_the_calendar_month(
    gateway: Gateway, window: str
) -> None:
    key = gateway.key(max_budget=1, budget_duration=window)
    row = gateway.row(key)
    assert row["budget_duration"] == window
    assert row["budget_reset_at"][7:19] == "-01T00:00:00"


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        ({"max_budget": -1}, {400}),
        ({"rpm_limit": "many"}, {422}),
        ({"models": "one"}, {422}),
        ({"metadata": []}, {422}),
        ({"rpm_limit": -1}, {200, 422}),  # 1.106 stores it, 1.109 refuses it
        ({"budget_duration": "soon"}, {400}),
        ({"duration": "soon"}, {400, 500}),
    ],
)
def test_nonsense_is_refused_in_either_error_shape(
    gateway: Gateway, body: Json, statuses: set[int]
) -> None:
    key = new_value()
    gateway.made.append(key.hash)
    answer = gateway.post("/key/generate", key=key.value, **body)
    assert answer.status_code in statuses
    if answer.status_code != 200:
        assert set(answer.json()) in ({"error"}, {"detail"})
        assert gateway.get("/key/info", key=key.hash).status_code == 404


def test_unknown_fields_are_ignored(gateway: Gateway) -> None:
    gateway.key(frobnicate=1)


def test_unknown_budget_is_refused(gateway: Gateway) -> None:
    key = new_value()
    answer = gateway.post("/key/generate", key=key.value, budget_id=unique("none"))
    assert answer.status_code == 500
    assert gateway.get("/key/info", key=key.hash).status_code == 404
    known = gateway.key()
    answer = gateway.post("/key/update", key=known.hash, budget_id=unique("none"))
    assert answer.status_code == 400
    assert gateway.row(known)["budget_id"] is None


def test_S33_enterprise_features_are_refused(gateway: Gateway) -> None:
    key = gateway.key()
    assert gateway.post("/key/regenerate", key=key.value).status_code == 500
    assert gateway.post("/key/generate", tags=["a"]).status_code == 403


def test_S07_management_is_for_the_master_key(gateway: Gateway) -> None:
    calls = [
        ("POST", "/key/generate", {}),
        ("POST", "/key/update", {"key": "x"}),
        ("GET", "/spend/logs", None),
        ("POST", "/budget/new", {}),
    ]
    for method, path, body in calls:
        assert gateway.ask(method, path, body, key=new_value()).status_code == 401
        assert gateway.ask(method, path, body, key=gateway.key()).status_code == 401
        llm_only = gateway.key(key_type="llm_api")
        assert gateway.ask(method, path, body, key=llm_only).status_code == 403


def test_key_without_key_type_may_read_itself_and_one_for_models_may_not(gateway: Gateway) -> None:
    key = gateway.key()
    answer = gateway.ask("GET", "/key/info", key=key)
    assert answer.status_code == 200
    assert answer.json()["key"] == key.hash
    llm_only = gateway.key(key_type="llm_api")
    assert gateway.ask("GET", "/key/info", key=llm_only).status_code == 403
    assert gateway.ask("GET", "/v1/models", key=llm_only).status_code == 200
    assert gateway.ask("GET", "/health", key=llm_only).status_code == 403


def test_users_of_keys_need_not_exist(gateway: Gateway) -> None:
    user = unique("user")
    key = gateway.key(user_id=user)
    assert gateway.row(key)["user_id"] == user
    assert gateway.get("/key/list", user_id=user).json()["keys"] == [key.hash]
    assert gateway.get("/user/info", user_id=user).status_code == 404


def test_alias_taken_at_the_same_moment_may_be_given_twice(gateway: Gateway) -> None:
    """Nothing at the gateway holds aliases apart: that is for us to do."""
    alias = unique("alias")

    def generate(key: VirtualKey) -> int:
        return gateway.post("/key/generate", key=key.value, key_alias=alias).status_code

    keys = [new_value() for _ in range(6)]
    gateway.made += [key.hash for key in keys]
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(generate, keys))
    assert statuses.count(200) >= 1
    assert set(statuses) <= {200, 400}
    count = gateway.get("/key/list", key_alias=alias).json()["total_count"]
    assert count == statuses.count(200)

"""Reading and changing many keys: /key/list and /key/bulk_update."""

import pytest

from tests.contract.gateway.conftest import ON_FREE, Gateway, new_value, unique

pytestmark = pytest.mark.contract


def test_list_pages_through_all_keys_oldest_first(gateway: Gateway) -> None:
    made = [gateway.key(metadata={"n": n}, key_alias=unique("alias")) for n in range(5)]
    wanted = {key.hash for key in made}
    found: list[str] = []
    page = pages = 1
    while page <= pages:
        answer = gateway.get(
            "/key/list",
            page=page,
            size=2,
            sort_by="created_at",
            sort_order="asc",
            return_full_object="true",
        ).json()
        assert answer["current_page"] == page
        pages = answer["total_pages"]
        found += [row["token"] for row in answer["keys"] if row["token"] in wanted]
        page += 1
    assert found == [key.hash for key in made]


def test_list_holds_the_fields_we_audit(gateway: Gateway) -> None:
    budget, team = gateway.budget(rpm_limit=9), gateway.team(ON_FREE)
    alias = unique("alias")
    key = gateway.key(
        models=["all-team-models"],
        team_id=team,
        budget_id=budget,
        max_budget=2,
        max_parallel_requests=3,
        metadata={"managed_by": "tests"},
        key_alias=alias,
    )
    for query in ({"key_alias": alias}, {"key_hash": key.hash}, {"team_id": team}):
        answer = gateway.get("/key/list", return_full_object="true", **query).json()
        assert answer["total_count"] == 1
        row = answer["keys"][0]
        expected = {
            "token": key.hash,
            "key_alias": alias,
            "models": ["all-team-models"],
            "team_id": team,
            "budget_id": budget,
            "max_budget": 2,
            "rpm_limit": None,
            "max_parallel_requests": 3,
            "metadata": {"managed_by": "tests"},
            "expires": None,
            "user_id": None,
        }
        assert {name: row[name] for name in expected} == expected
    hashes = gateway.get("/key/list", key_alias=alias).json()["keys"]
    assert hashes == [key.hash]


def test_list_has_at_most_a_hundred_a_page_and_an_empty_last_one(gateway: Gateway) -> None:
    assert gateway.get("/key/list", size=101).status_code == 422
    assert gateway.get("/key/list", page=0).status_code == 422
    beyond = gateway.get("/key/list", page=99999).json()
    assert beyond["keys"] == []
    assert gateway.get("/key/list", key_alias=unique("none")).json()["total_pages"] == 0


def test_metadata_set_to_null_breaks_the_key_and_the_list_for_everybody(gateway: Gateway) -> None:
    key = gateway.key(metadata={"n": 1})
    gateway.post("/key/update", key=key.hash, metadata=None)
    assert gateway.get("/key/list", return_full_object="true", size=100).status_code == 500
    assert gateway.chat(key).status_code == 401
    gateway.post("/key/update", key=key.hash, metadata={})
    assert gateway.get("/key/list", return_full_object="true", size=100).status_code == 200
    assert gateway.chat(key).status_code == 200


def test_bulk_update_reports_each_key(gateway: Gateway) -> None:
    key, stranger = gateway.key(max_budget=1), new_value()
    items = [{"key": key.hash, "max_budget": 7}, {"key": stranger.hash, "max_budget": 7}]
    answer = gateway.post("/key/bulk_update", keys=items)
    assert answer.status_code == 200
    report = answer.json()
    assert report["total_requested"] == 2
    assert [item["key"] for item in report["successful_updates"]] == [key.hash]
    assert [item["key"] for item in report["failed_updates"]] == [stranger.hash]
    assert gateway.row(key)["max_budget"] == 7
    too_many = [{"key": key.hash, "max_budget": 7}] * 501
    assert gateway.post("/key/bulk_update", keys=too_many).status_code == 400


def test_bulk_update_ignores_limits(gateway: Gateway) -> None:
    key = gateway.key(rpm_limit=3)
    answer = gateway.post("/key/bulk_update", keys=[{"key": key.hash, "rpm_limit": 9}])
    assert answer.status_code == 200
    assert gateway.row(key)["rpm_limit"] == 3

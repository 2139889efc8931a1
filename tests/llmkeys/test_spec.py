"""What the gateway should hold, and what must be sent for it to hold that: tables."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkeys.spec import (
    NO_MODELS,
    Entitled,
    KeyFacts,
    Window,
    changes_needed,
    creation,
    differences,
    fingerprint,
    key_spec,
    money,
    observe_key,
    plan_spec,
    required_money,
    takes_access_away,
)

START = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
PRO = Entitled(
    plan_code="pro",
    gateway_id="tesslate-pro",
    budget=Decimal(50),
    rpm=500,
    tpm=500_000,
    max_parallel_requests=5,
)
ALICE = KeyFacts(
    key_id=7,
    alias="tesslate-u3-abc",
    label="default",
    user_id=3,
    email="alice@example.com",
    blocked=False,
    window=Window(START),
)


def spec(entitled: Entitled = PRO, facts: KeyFacts = ALICE) -> dict[str, Any]:
    return key_spec(entitled, facts, managed_by="tesslate")


def test_rates_are_left_to_the_plans_shared_row() -> None:
    assert spec()["rpm_limit"] is None
    assert spec()["tpm_limit"] is None
    assert spec()["budget_id"] == "tesslate-pro"


@pytest.mark.parametrize(("percent", "rpm"), [(50, 250), (1, 5), (99, 495)])
def test_a_user_with_a_share_of_the_rates_has_them_written_into_the_key(
    percent: int, rpm: int
) -> None:
    assert spec(replace(PRO, limit_percent=percent))["rpm_limit"] == rpm


def test_a_share_of_a_small_limit_is_never_none_of_it() -> None:
    tiny = replace(PRO, rpm=1, limit_percent=10)
    assert spec(tiny)["rpm_limit"] == 1


def test_S14_equal_states_need_no_change() -> None:
    assert changes_needed(spec(), spec()) == {}


@pytest.mark.parametrize(
    ("changed", "sent"),
    [
        ({"blocked": True}, {"blocked": False}),
        ({"rpm_limit": 3}, {"rpm_limit": None}),
        ({"tpm_limit": 3}, {"tpm_limit": None}),
        ({"max_budget": "7"}, {"max_budget": Decimal(50)}),
        ({"max_budget": None}, {"max_budget": Decimal(50)}),
        ({"alias": "other"}, {"key_alias": "tesslate-u3-abc"}),
        ({"models": []}, {"models": ["all-team-models"]}),
        ({"team_id": None}, {"team_id": "tesslate-pro"}),
        ({"budget_id": "x"}, {"budget_id": "tesslate-pro"}),
        ({"expires": "2026-12-01T00:00:00Z"}, {"duration": None}),
        ({"budget_duration": "30d"}, {"budget_duration": None}),
        ({"user_id": "somebody"}, {"user_id": None}),
        ({"allowed_routes": []}, {"allowed_routes": ["llm_api_routes"]}),
        ({"max_parallel_requests": None}, {"max_parallel_requests": 5}),
    ],
)
def test_S15_only_what_differs_is_sent_and_null_clears(
    changed: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert changes_needed(spec(), {**spec(), **changed}) == sent


def test_S15_no_spec_ever_holds_an_empty_list_of_models() -> None:
    assert spec()["models"] == ["all-team-models"]
    emptied = plan_spec(code="pro", models=[], rpm=1, tpm=1, managed_by="tesslate")
    assert emptied["models"] == [NO_MODELS]


@pytest.mark.parametrize("value", [None, "NaN", float("inf"), float("nan"), "-1", -0.01, "much"])
def test_S16_what_means_unlimited_is_never_sent(value: object) -> None:
    with pytest.raises(ValueError, match="no budget"):
        required_money(value)


def test_S16_a_budget_of_zero_stays_zero() -> None:
    broke = spec(replace(PRO, budget=Decimal(0)))
    assert broke["max_budget"] == "0"
    assert creation(broke, spend=Decimal(0))["max_budget"] == 0
    assert changes_needed(broke, {**broke, "max_budget": None}) == {"max_budget": Decimal(0)}


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("0.3", 0.1 + 0.2, True),
        ("50", 50.0, True),
        ("50", "50.0000001", True),
        ("50", 50.01, False),
        ("0", 0.0, True),
        ("0", None, False),
        ("1", float("inf"), False),
    ],
)
def test_S17_money_is_compared_with_one_tolerance(ours: str, theirs: object, same: bool) -> None:
    observed = observe_key({**_row(spec()), "max_budget": theirs})
    assert (differences({**spec(), "max_budget": ours}, observed) == []) is same


def test_a_new_window_takes_the_spend_back_to_zero_in_the_same_call() -> None:
    later = spec(facts=replace(ALICE, window=Window(START.replace(month=12))))
    patch = changes_needed(later, spec())
    assert patch["spend"] == 0
    assert patch["metadata"]["window"] == "2026-12-05T09:30:00+00:00"


def test_other_metadata_changes_leave_the_spend_alone() -> None:
    renamed = spec(facts=replace(ALICE, email="alice@example.org"))
    assert "spend" not in changes_needed(renamed, spec())


def test_a_reset_by_staff_is_a_window_of_its_own() -> None:
    again = spec(facts=replace(ALICE, window=Window(START, 1)))
    assert changes_needed(again, spec())["spend"] == 0


@pytest.mark.parametrize("window", [Window(START), Window(START, 2)])
def test_a_windows_name_tells_which_it_is(window: Window) -> None:
    assert Window.named(str(window)) == window


@pytest.mark.parametrize(
    "name", ["", "soon", "2026-11-05T09:30:00", "2026-11-05T09:30:00+00:00 reset often"]
)
def test_what_staff_wrote_at_the_gateway_may_be_no_window(name: str) -> None:
    assert Window.named(name) is None


@pytest.mark.parametrize(
    ("desired", "observed", "taken"),
    [
        ({}, {}, False),
        ({"blocked": True}, {}, True),
        ({"blocked": True}, {"blocked": True}, False),
        ({"team_id": "tesslate-free"}, {}, True),
        ({}, {"models": []}, True),
        ({"max_budget": "1"}, {}, False),
    ],
)
def test_taking_access_away_is_recognised(
    desired: dict[str, Any], observed: dict[str, Any], taken: bool
) -> None:
    assert takes_access_away({**spec(), **desired}, {**spec(), **observed}) is taken


def test_an_upgrade_takes_nothing_away() -> None:
    observed = {**spec(), "team_id": "tesslate-free"}
    assert not takes_access_away(spec(), observed, loses_models=False)


def test_a_key_that_goes_is_access_taken_away() -> None:
    assert takes_access_away(None, spec())
    assert not takes_access_away(None, None)


@given(st.permutations(list(spec())))
def test_the_fingerprint_does_not_depend_on_order(names: list[str]) -> None:
    assert fingerprint({name: spec()[name] for name in names}) == fingerprint(spec())


@given(st.one_of(st.none(), st.floats(), st.decimals(), st.text(), st.integers()))
def test_S16_money_is_finite_or_nothing(value: object) -> None:
    amount = money(value)
    assert amount is None or amount.is_finite()


@given(
    st.dictionaries(
        st.sampled_from(sorted(spec())), st.sampled_from([None, True, 3, "x"]), max_size=6
    )
)
def test_S15_sending_what_is_needed_makes_the_gateway_agree(noise: dict[str, Any]) -> None:
    """Applied as LiteLLM's merge patch, the changes always lead to the desired state."""
    noise = {k: v for k, v in noise.items() if k not in ("metadata", "models", "allowed_routes")}
    row = _row({**spec(), **noise})
    for name, value in changes_needed(spec(), observe_key(row)).items():
        row["expires" if name == "duration" else name] = value
    assert differences(spec(), observe_key(row)) == []


def _row(state: dict[str, Any]) -> dict[str, Any]:
    return {"key_alias": state["alias"], **state}

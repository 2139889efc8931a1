"""The stand-in's pure parts: durations, limits, request bodies."""

from datetime import UTC, datetime

import pytest

from sandbox.litellm.durations import DurationError, WindowError, budget_reset, expiry, iso
from sandbox.litellm.errors import Refusal
from sandbox.litellm.limits import Grant, Holder, Limiter, reservation
from sandbox.litellm.schema import parse_object

NOW = datetime(2026, 11, 23, 13, 59, 44, tzinfo=UTC).timestamp()  # a Monday


@pytest.mark.parametrize(
    ("duration", "end"),
    [
        ("30s", "2026-11-23T14:00:00+00:00"),
        ("10m", "2026-11-23T14:00:00+00:00"),
        ("1h", "2026-11-23T14:00:00+00:00"),
        ("24h", "2026-11-24T00:00:00+00:00"),
        ("1d", "2026-11-24T00:00:00+00:00"),
        ("7d", "2026-11-30T00:00:00+00:00"),
        ("1w", "2026-11-30T00:00:00+00:00"),
        ("14d", "2026-12-07T00:00:00+00:00"),
        ("30d", "2026-12-01T00:00:00+00:00"),
        ("1mo", "2026-12-01T00:00:00+00:00"),
        ("31d", "2026-12-24T00:00:00+00:00"),
        ("90d", "2027-02-21T00:00:00+00:00"),
    ],
)
def test_budget_windows_as_observed_at_litellm(duration: str, end: str) -> None:
    assert iso(budget_reset(duration, NOW)) == end


def test_key_durations_run_from_now() -> None:
    assert iso(expiry("1mo", NOW)) == "2026-12-23T13:59:44+00:00"
    assert expiry("2w", NOW) == NOW + 14 * 86400
    assert iso(NOW + 0.1234, zone="Z") == "2026-11-23T13:59:44.123000Z"
    for nonsense in ("soon", "-1s", "", "5", "1.5h"):
        with pytest.raises(DurationError):
            expiry(nonsense, NOW)
    for nonsense in ("soon", "2mo", "0d"):
        with pytest.raises(WindowError):
            budget_reset(nonsense, NOW)


@pytest.mark.parametrize(
    ("characters", "max_tokens", "tpm", "reserved", "cap"),
    [
        (2, None, 40, 1 + 10, 10),  # transcripts/13: 29 of 40 left
        (2, None, 1000, 1 + 250, 250),  # transcripts/20: 749 of 1000 left
        (2, None, 100_000, 1 + 1024, None),
        (2, None, None, 1 + 1024, None),
        (8000, None, 100_000, 2000 + 2000, None),
        (400, 50, 1000, 100 + 50, None),
        (0, None, 1000, 0, 250),
    ],
)
def test_tokens_reserved_as_litellm_reserves_them(
    characters: int, max_tokens: int | None, tpm: int | None, reserved: int, cap: int | None
) -> None:
    assert reservation(characters, max_tokens, 1, tpm) == (reserved, cap)


def admit(limiter: Limiter, at: float, reserved: int = 0, **limits: int) -> Grant | str:
    try:
        return limiter.admit((Holder("api_key", "k", **limits),), reserved, at)
    except Refusal as refusal:
        return str(refusal.rate_type)


def test_window_starts_with_its_first_request() -> None:
    limiter = Limiter(60)
    answers = [admit(limiter, at, rpm=2) for at in (10.0, 69.0, 69.9, 70.0)]
    assert [type(answer) for answer in answers] == [Grant, Grant, str, Grant]


def test_settling_corrects_the_reservation_in_its_own_window_only() -> None:
    limiter = Limiter(60)
    first = admit(limiter, 0.0, reserved=90, tpm=100)
    assert admit(limiter, 1.0, reserved=20, tpm=100) == "tokens"
    assert isinstance(first, Grant)
    limiter.settle(first, 30)
    second = admit(limiter, 2.0, reserved=70, tpm=100)
    assert isinstance(second, Grant)
    assert isinstance(admit(limiter, 61.0, reserved=100, tpm=100), Grant)
    limiter.settle(second, 0)
    assert admit(limiter, 62.0, reserved=1, tpm=100) == "tokens"


def test_slots_are_freed_once_however_often_settled() -> None:
    limiter = Limiter(60)
    grant = admit(limiter, 0.0, parallel=1)
    assert admit(limiter, 0.0, parallel=1) == "max_parallel_requests"
    assert isinstance(grant, Grant)
    limiter.settle(grant, 0)
    limiter.settle(grant, 0)
    assert isinstance(admit(limiter, 0.0, parallel=1), Grant)
    assert admit(limiter, 0.0, parallel=1) == "max_parallel_requests"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "json_invalid"),
        (b"[]", "model_attributes_type"),
        (b"", "missing"),
        (b"{}", "missing"),
        (b'{"name": 1}', "string_type"),
        (b'{"name": "n", "limit": "x"}', "int_parsing"),
        (b'{"name": "n", "limit": 1.5}', "int_from_float"),
        (b'{"name": "n", "limit": []}', "int_type"),
        (b'{"name": "n", "limit": -1}', "greater_than_equal"),
        (b'{"name": "n", "money": "x"}', "float_parsing"),
        (b'{"name": "n", "money": {}}', "float_type"),
        (b'{"name": "n", "list": {}}', "list_type"),
        (b'{"name": "n", "dict": []}', "dict_type"),
        (b'{"name": "n", "flag": "perhaps"}', "bool_parsing"),
        (b'{"name": "n", "flag": []}', "bool_type"),
    ],
)
def test_bodies_that_do_not_fit_are_422(body: bytes, kind: str) -> None:
    fields = {name: name for name in ("limit", "list", "dict")}
    fields |= {"name": "str", "money": "float", "flag": "bool"}
    with pytest.raises(Refusal) as caught:
        parse_object(body, fields, ("name",))
    assert caught.value.status == 422
    assert f'"{kind}"'.encode() in caught.value.body


def test_bodies_are_converted_nulls_stay_and_unknown_fields_go() -> None:
    fields = {"limit": "limit", "flag": "bool", "money": "float", "gone": "str"}
    body = b'{"limit": "7", "flag": "yes", "money": 1, "gone": null, "other": 1}'
    assert parse_object(body, fields) == {"limit": 7, "flag": True, "money": 1.0, "gone": None}

"""The gateway's log and our ledger, compared: each difference has a name, and all add up."""

import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db.models import Sum
from django.urls import reverse

from chatproxy.models import ChatRequest, UsageCheck, UsageComparison
from chatproxy.usage import import_usage
from chatproxy.usage_check import check_day, check_usage, days_to_check
from llmkeys import gateway
from llmkeys.models import UsageImport, VirtualKey
from llmkeys.provisioning import new_key
from tesslate.lib.cause import Cause
from tests.llmkeys.spendlog import NOON, call_of, log
from tests.llmkeys.standin import StandIn, client_of

pytestmark = pytest.mark.django_db
NEXT_DAY = NOON + timedelta(days=1)
Kind = UsageComparison.Kind
_numbers = itertools.count(1)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    transport = StandIn(tmp_path)
    gateway.use(client_of(transport))
    yield transport
    gateway.use(None)
    transport.close()


@pytest.fixture
def key(user: Any) -> VirtualKey:
    made = new_key(user_id=user.pk, label="default", cause=Cause.system("test"))
    made.created_at = NOON - timedelta(days=2)
    made.save()
    return made


def id_of(at: datetime) -> uuid.UUID:
    """A ledger id as of that moment."""
    return uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | next(_numbers))


def asked(user: Any, at: datetime = NOON, **fields: Any) -> ChatRequest:
    """A request in our ledger, as it went to the gateway."""
    identity = id_of(at)
    values = {
        "plan_code": "free",
        "model": "small",
        "client": "chat",
        "outcome": "completed",
        "status": 200,
        "duration_ms": 2000,
        "cost": Decimal("0.001"),
        "gateway_call_id": str(identity),
        **fields,
    }
    return ChatRequest.objects.create(id=identity, started_at=at, user=user, **values)


def compared(at: datetime = NEXT_DAY) -> UsageCheck:
    import_usage(at=at, since=NOON - timedelta(days=1))
    return check_day(NOON.date(), at=at)


def kinds(check: UsageCheck) -> dict[str, int]:
    return dict(check.comparisons.values_list("kind", "requests"))


def test_what_both_have_agrees(standin: StandIn, key: VirtualKey, user: Any) -> None:
    request = asked(user)
    log(standin, call_of(key, call_id=str(request.pk)))
    check = compared()
    row = check.comparisons.get()
    assert (row.kind, row.user, row.model, row.requests) == (Kind.AGREES, user, "small", 1)
    assert check.gateway_cost == check.ledger_cost == Decimal("0.001")
    assert check.unexplained_requests == 0
    assert check.unexplained_cost == Decimal(0)


def test_a_log_without_call_ids_is_joined_by_the_answers_id(
    standin: StandIn, key: VirtualKey, user: Any
) -> None:
    asked(user, gateway_response_id="chatcmpl-abc")
    log(standin, call_of(key, call_id="", request_id="chatcmpl-abc"))
    assert kinds(compared()) == {Kind.AGREES: 1}


def test_attempts_of_one_request_count_together(
    standin: StandIn, key: VirtualKey, user: Any
) -> None:
    request = asked(user)
    failed: dict[str, Any] = {
        "status": "failure",
        "input_cost": 0,
        "output_cost": 0,
        "request_id": "first",
    }
    log(
        standin,
        call_of(key, call_id=str(request.pk), **failed),
        call_of(key, NOON + timedelta(seconds=3), call_id=f"{request.pk}-2"),
    )
    check = compared()
    assert kinds(check) == {Kind.AGREES: 1}
    assert (check.gateway_calls, check.ledger_requests) == (2, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "explained"),
    [
        ({}, None, Kind.LOST_AT_GATEWAY, False),
        (None, {}, Kind.NOT_THROUGH_US, True),
        (None, {"call_id": "0193a1b2-0000-7000-8000-000000000001"}, Kind.LOST_HERE, False),
        (None, {"api_key": "hash-of-another"}, Kind.UNKNOWN_KEY, True),
        (None, {"status": "failure", "input_cost": 0, "output_cost": 0}, Kind.REFUSED, True),
        ({"cost": Decimal("0.002")}, {}, Kind.COST_DIFFERS, False),
        ({"cost": Decimal("0.002"), "is_estimated": True}, {}, Kind.ESTIMATED, True),
        ({"cost": None, "outcome": "abandoned"}, {}, Kind.NOT_TOLD, True),
        ({"cost": Decimal("0.0005"), "outcome": "abandoned"}, {}, Kind.CUT_SHORT, True),
        ({"cost": None, "outcome": "failed"}, None, Kind.REFUSED, True),
    ],
)
def test_every_difference_has_a_name(
    standin: StandIn,
    key: VirtualKey,
    user: Any,
    ours: dict[str, Any] | None,
    theirs: dict[str, Any] | None,
    kind: str,
    explained: bool,
) -> None:
    request = asked(user, **ours) if ours is not None else None
    if theirs is not None:
        given = {"call_id": str(request.pk)} if request else {}
        log(standin, call_of(key, **{**given, **theirs}))
    check = compared()
    row = check.comparisons.get()
    assert row.kind == kind
    assert (check.unexplained_requests == 0) is explained
    assert check.gateway_cost - check.ledger_cost == row.gateway_cost - row.ledger_cost
    if not explained:
        assert check.unexplained_cost == abs(row.gateway_cost - row.ledger_cost) > 0


def test_differences_add_up_to_the_last_digit(standin: StandIn, key: VirtualKey, user: Any) -> None:
    for n in range(20):
        request = asked(user, NOON + timedelta(minutes=n), cost=Decimal("0.0010000001") * (n % 3))
        if n % 4:
            log(standin, call_of(key, NOON + timedelta(minutes=n), call_id=str(request.pk)))
    log(standin, call_of(None), call_of(key))
    check = compared()
    total = check.comparisons.aggregate(ours=Sum("ledger_cost"), theirs=Sum("gateway_cost"))
    assert (total["ours"], total["theirs"]) == (check.ledger_cost, check.gateway_cost)
    assert check.ledger_cost == sum(row.cost or 0 for row in ChatRequest.objects.all())


def test_a_pair_across_midnight_is_compared_once_on_the_gateways_day(
    standin: StandIn, key: VirtualKey, user: Any
) -> None:
    midnight = datetime(2026, 11, 11, tzinfo=UTC)
    request = asked(user, midnight - timedelta(milliseconds=5))
    log(standin, call_of(key, midnight + timedelta(milliseconds=5), call_id=str(request.pk)))
    assert compared().comparisons.count() == 0
    assert kinds(check_day(midnight.date(), at=NEXT_DAY)) == {Kind.AGREES: 1}


def test_what_ended_a_moment_ago_is_left_for_the_next_time(
    standin: StandIn, key: VirtualKey, user: Any
) -> None:
    asked(user)
    soon = NOON + timedelta(seconds=20)
    assert kinds(compared(soon)) == {}
    assert kinds(compared(NOON + timedelta(minutes=10))) == {Kind.LOST_AT_GATEWAY: 1}


def test_comparing_again_replaces_what_was_found(
    standin: StandIn, key: VirtualKey, user: Any
) -> None:
    request = asked(user)
    assert kinds(compared()) == {Kind.LOST_AT_GATEWAY: 1}
    log(standin, call_of(key, call_id=str(request.pk)))
    assert kinds(compared()) == {Kind.AGREES: 1}
    assert UsageCheck.objects.count() == 1


def test_U15_a_day_long_past_is_compared_anew_when_a_late_row_comes(
    standin: StandIn, key: VirtualKey
) -> None:
    later = NOON + timedelta(days=20)
    import_usage(at=later)
    check_usage(at=later)
    assert NOON.date() not in days_to_check(later)
    log(standin, call_of(key))
    import_usage(at=later + timedelta(minutes=5), since=NOON - timedelta(days=1))
    assert NOON.date() in days_to_check(later + timedelta(minutes=10))


def test_the_gateways_sums_of_a_day_are_asked_for_when_it_is_over(
    standin: StandIn, key: VirtualKey
) -> None:
    log(standin, call_of(key))
    soon = NOON + timedelta(hours=1)
    import_usage(at=soon, since=NOON - timedelta(days=1))
    (check,) = check_usage(at=soon, days=[NOON.date()])
    assert check.counted_cost is None


def test_rows_that_the_log_dropped_show_in_the_gateways_own_sums(
    standin: StandIn, key: VirtualKey
) -> None:
    """LiteLLM keeps one row for a request id and counts both."""
    log(standin, call_of(key, request_id="same"), call_of(key, request_id="same"))
    import_usage(at=NEXT_DAY, since=NOON - timedelta(days=1))
    (check,) = check_usage(at=NEXT_DAY, days=[NOON.date()])
    assert check.gateway_cost == Decimal("0.001")
    assert check.counted_cost == Decimal("0.002")


def test_a_gateway_that_is_down_does_not_stop_the_comparison(
    standin: StandIn, key: VirtualKey, user: Any
) -> None:
    asked(user)
    import_usage(at=NEXT_DAY, since=NOON - timedelta(days=1))

    def down(request: httpx.Request) -> httpx.Response | None:
        raise httpx.ConnectError("down")

    standin.before = down
    (check,) = check_usage(at=NEXT_DAY, days=[NOON.date()])
    assert check.counted_cost is None
    assert check.unexplained_requests == 1
    assert UsageImport.objects.get().read_until == NEXT_DAY


def test_staff_see_every_difference_with_its_reason(
    standin: StandIn, key: VirtualKey, user: Any, staff_client: Any
) -> None:
    address = reverse("admin:usage-differences")
    assert "Nothing has been compared yet" in staff_client.get(address).content.decode()
    asked(user)
    log(standin, call_of(key, model_group="large"))
    compared()
    page = staff_client.get(address, {"day": str(NOON.date())}).content.decode()
    for text in ("Missing in the gateway", "Our key, used without us", user.email, "$0.001"):
        assert text in page
    assert staff_client.get(address, {"day": "nonsense"}).status_code == 200
    assert staff_client.get(address, {"day": "2020-01-01"}).status_code == 200


def test_differences_are_for_staff_who_may_see_them(client: Any, stranger: Any) -> None:
    stranger.is_staff = True
    stranger.save()
    client.force_login(stranger)
    assert client.get(reverse("admin:usage-differences")).status_code == 403

"""Calls that went through us are whose the ledger says; credits are entries of their own."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from accounts.models import AuditEntry
from chatproxy.exchange import new_exchange, time_of
from chatproxy.models import ChatRequest
from chatproxy.usage import import_usage, request_id_of
from llmkeys import gateway
from llmkeys.models import UsageDay, UsageEntry, VirtualKey
from llmkeys.provisioning import new_key
from llmkeys.usage_books import credit_usage
from tesslate.lib.cause import Cause
from tesslate.lib.errors import InvalidRequest
from tests.factories import OrganizationFactory
from tests.llmkeys.spendlog import NOON, call_of, log
from tests.llmkeys.standin import StandIn, client_of

pytestmark = pytest.mark.django_db


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
    made.save()
    return made


def request_of(user: Any, **fields: Any) -> ChatRequest:
    """A ledger row, begun now: its id says so."""
    found = uuid.UUID(new_exchange("chat").id)
    values = {
        "plan_code": "pro",
        "model": "small",
        "client": "chat",
        "outcome": "completed",
        "status": 200,
        "duration_ms": 5,
        "gateway_call_id": str(found),
        **fields,
    }
    at = datetime.fromtimestamp(time_of(found) / 1000, UTC)
    return ChatRequest.objects.create(id=found, started_at=at, user=user, **values)


@pytest.mark.parametrize("attempt", ["", "-2"])
def test_plan_and_payer_are_those_of_the_request(
    standin: StandIn, key: VirtualKey, user: Any, attempt: str
) -> None:
    request = request_of(user, organization=OrganizationFactory.create())
    call_id = f"{request.pk}{attempt}"
    log(standin, call_of(key, request.started_at, call_id=call_id))
    import_usage(
        at=request.started_at + timedelta(minutes=1),
        since=request.started_at - timedelta(minutes=1),
    )
    entry = UsageEntry.objects.get()
    assert (entry.plan_code, entry.organization) == ("pro", request.organization)
    assert (entry.user, entry.key) == (user, key)


@pytest.mark.parametrize(
    "call_id",
    [
        "",
        "call-1",
        "not-a-uuid",
        "0" * 40,
        "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
def test_other_call_ids_are_not_taken_for_ours(call_id: str) -> None:
    assert request_id_of(call_id) is None


def test_U16_a_refund_of_usage_is_an_entry_and_changes_none(
    standin: StandIn, key: VirtualKey, user: Any, staff: Any
) -> None:
    log(standin, call_of(key))
    import_usage(at=NOON + timedelta(hours=1), since=NOON - timedelta(hours=1))
    call = UsageEntry.objects.values().get()
    credit_usage(
        user=user, amount=Decimal("0.0004"), reason="outage", cause=Cause.staff(staff.pk), at=NOON
    )
    assert UsageEntry.objects.values().get(source="gateway") == call
    credit = UsageEntry.objects.get(source="credit")
    assert (credit.cost, credit.credited) == (Decimal(0), Decimal("0.0004"))
    assert credit.credited_by == staff
    days = UsageDay.objects.filter(user=user, day=NOON.date())
    assert sum(day.cost for day in days) == Decimal("0.001")
    assert sum(day.credited for day in days) == Decimal("0.0004")
    assert sum(day.requests for day in days) == 1
    act = AuditEntry.objects.get(action="usage.credited")
    assert (act.user, act.reason) == (user, "outage")


def test_U16_a_refund_of_usage_that_is_sent_twice_is_given_once(user: Any) -> None:
    for _ in range(2):
        credit_usage(
            user=user,
            amount=Decimal(1),
            reason="outage",
            cause=Cause.system("test"),
            at=NOON,
            identifier="form-1",
        )
    assert UsageEntry.objects.count() == 1
    assert UsageDay.objects.get().credited == 1
    assert AuditEntry.objects.filter(action="usage.credited").count() == 1


@pytest.mark.parametrize(
    ("amount", "reason", "param"),
    [("0", "x", "amount"), ("-1", "x", "amount"), ("1e9", "x", "amount"), ("1", " ", "reason")],
)
def test_U16_a_refund_of_usage_needs_an_amount_and_a_reason(
    user: Any, amount: str, reason: str, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        credit_usage(
            user=user,
            amount=Decimal(amount),
            reason=reason,
            cause=Cause.system("test"),
            at=NOON,
        )
    assert refused.value.param == param
    assert not UsageEntry.objects.exists()

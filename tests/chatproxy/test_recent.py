"""What operators see of the traffic at a terminal."""

import io
from datetime import timedelta
from decimal import Decimal

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import User
from chatproxy.exchange import Outcome, new_exchange
from chatproxy.ledger import write_rows
from chatproxy.recent import Tail, usage_since
from tests.factories import GatewayModelFactory

pytestmark = pytest.mark.django_db


def request(user: User, *, ago: float = 0, took: float = 0, **fields: object) -> str:
    """One row of the ledger that began so many seconds ago."""
    exchange = new_exchange("chat")
    begun = timezone.now() - timedelta(seconds=ago)
    row = {
        "id": exchange.id,
        "started_at": int(begun.timestamp() * 1000),
        "user_id": user.pk,
        "plan_code": "free",
        "model": "small",
        "served_model": "",
        "client": "chat",
        "is_stream": True,
        "idempotency_key": "",
        "outcome": Outcome.COMPLETED,
        "status": 200,
        "error_code": "",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cost": "0.002",
        "is_estimated": False,
        "ttfb_ms": 12,
        "duration_ms": int(took * 1000),
        "gateway_call_id": "",
        "gateway_response_id": "",
        "prompt_versions": [],
        **fields,
    }
    write_rows([orjson.dumps(row)])
    return exchange.public_id


def printed(command: str, *arguments: str, **options: object) -> str:
    told = io.StringIO()
    call_command(command, *arguments, stdout=told, **options)
    return told.getvalue()


def test_names_that_customers_make_up_are_one_line(user: User):
    GatewayModelFactory.create(name="small")
    for name in ("made-up-1", "made-up-2", "small"):
        request(user, model=name, outcome=Outcome.REFUSED, status=400, cost=None)
    lines = usage_since(timezone.now() - timedelta(hours=1))
    assert {(line.model, line.refused) for line in lines} == {("unknown", 2), ("small", 1)}


def test_usage_of_the_last_hour_is_told_by_user_and_model(user: User, stranger: User):
    GatewayModelFactory.create(name="small")
    request(user)
    request(user, outcome=Outcome.REFUSED, status=429, cost=None, prompt_tokens=0)
    request(user, model="large", outcome=Outcome.BROKEN, cost="1.5")
    request(stranger, ago=7200)

    lines = usage_since(timezone.now() - timedelta(hours=1))

    assert [(line.user, line.model) for line in lines] == [
        (user.email, "large"),
        (user.email, "small"),
    ]
    small = lines[1]
    assert (small.requests, small.refused, small.failed) == (2, 1, 0)
    assert (small.tokens, small.cost) == (20, Decimal("0.002"))
    assert lines[0].failed == 1


def test_usage_command_prints_the_dearest_first_and_counts_the_rest(user: User, stranger: User):
    request(user)
    request(stranger, cost="3")

    told = printed("show_usage", top=1)

    assert "mallory@example.com" in told
    assert "alice@example.com" not in told
    assert "and 1 more" in told


def test_tail_prints_the_last_requests_in_the_order_of_their_end(user: User):
    long = request(user, ago=60, took=50)
    short = request(user, ago=30, took=1)
    older = [request(user, ago=100 + n) for n in range(5)]

    told = printed("tail_requests", lines=2)

    assert told.index(short) < told.index(long)
    assert not any(name in told for name in older)


def test_tail_goes_on_with_what_ends_later_and_repeats_nothing(user: User):
    request(user, ago=5)
    tail = Tail()
    assert len(tail.last(10)) == 1

    assert tail.new() == []
    request(user, ago=500, took=500)
    assert [row.model for row in tail.new()] == ["small"]
    assert tail.new() == []


def test_tail_can_be_narrowed(user: User, stranger: User):
    request(user)
    wanted = request(stranger, outcome=Outcome.FAILED, status=503, error_code="gateway_unavailable")
    request(stranger)

    told = printed("tail_requests", user=stranger.email, outcome="failed")

    assert wanted in told
    assert "gateway_unavailable" in told
    assert len(told.splitlines()) == 1


def test_tail_of_nobody_is_refused(db):
    with pytest.raises(CommandError, match="no user"):
        call_command("tail_requests", user="nobody@example.com")

"""Months come ahead of time and go when theirs is over."""

from datetime import UTC, date, datetime, timedelta

import orjson
import pytest
from django.db import connection
from django.utils import timezone

from chatproxy.exchange import new_exchange
from chatproxy.ledger import COLUMNS, write_rows
from chatproxy.models import ChatContent, ChatRequest
from chatproxy.partitions import (
    DEFAULT,
    TABLE,
    drop_content,
    drop_partitions,
    make_partitions,
    partitions,
)

pytestmark = pytest.mark.django_db


def row(at: datetime) -> bytes:
    exchange = new_exchange("chat")
    numbers = {"user_id": 1, "status": 200, "prompt_tokens": 0, "completion_tokens": 0}
    texts = {name: "" for name, kind in COLUMNS.items() if kind == "text"}
    more = {"duration_ms": 1, "is_stream": True, "is_estimated": False, "prompt_versions": []}
    ids = {"id": exchange.id, "started_at": int(at.timestamp() * 1000)}
    return orjson.dumps({**texts, **numbers, **more, **ids})


def where(at: datetime):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tableoid::regclass::text FROM chatproxy_chatrequest WHERE started_at = %s",
            [at],
        )
        return cursor.fetchone()[0]


def test_a_fresh_installation_has_this_month_and_the_next_ones():
    today = timezone.now().date()
    assert f"{TABLE}_{today:%Y_%m}" in partitions()
    assert make_partitions() == []


def test_rows_go_to_their_month_and_others_to_the_default_one():
    make_partitions(date(2031, 12, 5), ahead=1)
    known, unknown = datetime(2032, 1, 31, 23, 59, tzinfo=UTC), datetime(2035, 5, 1, tzinfo=UTC)
    write_rows([row(known), row(unknown)])
    assert where(known) == f"{TABLE}_2032_01"
    assert where(unknown) == DEFAULT


def test_rows_that_came_before_their_partition_move_into_it():
    early = datetime(2033, 3, 15, tzinfo=UTC)
    write_rows([row(early)])
    assert where(early) == DEFAULT
    make_partitions(date(2033, 3, 1), ahead=0)
    assert where(early) == f"{TABLE}_2033_03"
    assert ChatRequest.objects.count() == 1


def test_months_past_their_retention_are_dropped_whole():
    make_partitions(date(2020, 1, 1), ahead=1)
    write_rows([row(datetime(2020, 1, 5, tzinfo=UTC)), row(datetime(2020, 2, 5, tzinfo=UTC))])
    write_rows([row(datetime(2019, 1, 5, tzinfo=UTC))])
    now = datetime(2020, 3, 15, tzinfo=UTC)
    assert drop_partitions(older_than=timedelta(days=30), now=now) == [f"{TABLE}_2020_01"]
    assert [at.month for at in ChatRequest.objects.values_list("started_at", flat=True)] == [2]


def test_old_conversations_are_forgotten(user):
    for days in (1, 40):
        at = timezone.now() - timedelta(days=days)
        exchange = new_exchange("chat")
        ChatContent.objects.create(request_id=exchange.id, user=user, created_at=at, encrypted="x")
    assert drop_content(older_than=timedelta(days=30)) == 1
    assert ChatContent.objects.count() == 1

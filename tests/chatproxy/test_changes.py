"""Who is told of changes, and when."""

import asyncio

import pytest
from django.db import connection, transaction

from accounts.signals import accounts_changed
from tesslate.lib.cause import Cause
from tesslate.lib.changes import MOST_USERS, PLANS, Change, parse, publish, subscribe

CAUSE = Cause.system("test")


async def collect(count: int, act) -> list[Change]:
    changes: list[Change] = []

    async def listen() -> None:
        async for change in subscribe():
            if change.everything and not changes and not begun.is_set():
                begun.set()
                continue
            changes.append(change)
            if len(changes) == count:
                return

    begun = asyncio.Event()
    listener = asyncio.create_task(listen())
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.to_thread(act)
    await asyncio.wait_for(listener, 5)
    return changes


@pytest.mark.django_db(transaction=True)
async def test_what_is_published_arrives():
    def act():
        publish([3, 1])
        publish(kinds=[PLANS])
        connection.close()

    assert await collect(2, act) == [
        Change(user_ids=frozenset({1, 3})),
        Change(kinds=frozenset({PLANS})),
    ]


@pytest.mark.django_db(transaction=True)
async def test_too_many_users_mean_everyone():
    def act():
        publish(range(MOST_USERS + 1))
        connection.close()

    changes = await collect(1, act)
    assert changes == [Change(everything=True)]


@pytest.mark.django_db(transaction=True)
def test_nothing_is_told_before_the_commit(monkeypatch):
    sent: list[str] = []
    monkeypatch.setattr("tesslate.lib.changes._send", sent.append)
    with transaction.atomic():
        publish([1])
        assert sent == []
    assert len(sent) == 1
    with transaction.atomic():
        publish([1])
        transaction.set_rollback(True)
    assert len(sent) == 1


@pytest.mark.django_db(transaction=True)
def test_the_apps_below_are_listened_to(monkeypatch):
    sent = []
    monkeypatch.setattr(
        "chatproxy.receivers.publish", lambda ids=(), kinds=(): sent.append((ids, kinds))
    )
    accounts_changed.send(None, user_ids=[], cause=CAUSE)
    assert sent == [([], ())]


@pytest.mark.django_db(transaction=True)
def test_a_lost_redis_is_no_reason_to_fail(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    publish([1])


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b'{"user_ids": 7}'])
def test_what_cannot_be_read_means_everything(data):
    assert parse(data).everything

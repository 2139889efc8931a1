"""Real worker processes, killed with SIGKILL at whatever they are doing."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from llmkeys import gateway, marking, reconcile
from llmkeys.models import PlanAtGateway, VirtualKey
from plans.models import Plan
from sandbox.serving import served
from tests.factories import UserFactory
from tests.llmkeys.conftest import CAUSE, entitle
from tests.llmkeys.standin import MASTER_KEY, StandIn
from tests.migrated import url_of

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import django, time
django.setup()
from llmkeys import reconcile
while True:
    reconcile.sync_batch(limit=8) or time.sleep(0.01)
"""

CLAIMED = (VirtualKey, PlanAtGateway)


@pytest.fixture
def address(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, socket_enabled: None
) -> Iterator[StandIn]:
    """The stand-in behind a real port, with slow answers: time to be killed in."""
    standin = StandIn(tmp_path)
    monkeypatch.setattr(marking, "send", lambda *args: None)
    with served(standin.app) as url:
        settings.LITELLM_URL = url
        gateway.use(None)
        yield standin
        gateway.client().close()
    gateway.use(None)
    standin.close()


def start_worker(url: str) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tesslate.settings",
        "DATABASE_URL": url_of(connection.settings_dict["NAME"]),
        "LITELLM_URL": url,
        "LITELLM_MASTER_KEYS": MASTER_KEY,
        "LITELLM_CONCURRENCY": "2",
    }
    return subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )


def leases_end() -> None:
    for rows in CLAIMED:
        rows._default_manager.update(lease_until=timezone.now(), next_attempt_at=timezone.now())


def wait_until_at_work() -> None:
    """Until somebody has claimed something: before that there is nothing to leave half done."""
    end = time.monotonic() + 20
    while not any(
        rows._default_manager.filter(lease_until__gt=timezone.now()).exists() for rows in CLAIMED
    ):
        assert time.monotonic() < end, "no worker took anything up"
        time.sleep(0.01)


def kill(worker: "subprocess.Popen[bytes]") -> None:
    worker.kill()
    worker.wait()


@pytest.mark.django_db(transaction=True)
def test_S19_workers_killed_at_any_moment_leave_nothing_half_done(
    address: StandIn, settings: Settings, free: Plan, pro: Plan
) -> None:
    users = UserFactory.create_batch(60)
    for person in users:
        entitle(person, free)
    slow = {"route": "*", "kind": "slow", "delay": 0.02, "after_effect": True}
    address.app.book.switch_on(slow)
    for count, plan in ((2, pro), (1, free), (1, pro)):
        leases_end()
        with ExitStack() as workers:
            for _ in range(count):
                workers.callback(kill, start_worker(settings.LITELLM_URL))
            wait_until_at_work()
            time.sleep(random.random() / 2)
        for person in users[::4]:
            entitle(User.objects.get(pk=person.pk), plan, cause=CAUSE)

    address.app.book.switch_off()
    leases_end()
    reconcile.drain(seconds=30)
    keys = list(VirtualKey.objects.all())
    assert all(key.is_in_step for key in keys)
    assert set(address.keys) == {key.key_hash for key in keys}
    assert {address.key(key).max_budget for key in keys} == {1, 50}
    assert all(key.attempts == 0 and not key.in_doubt for key in keys)

"""Real worker processes, killed with SIGKILL at whatever they are doing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from llmkeys import gateway, marking, reconcile
from llmkeys.models import VirtualKey
from plans.models import Plan
from sandbox.serving import served
from tests.factories import UserFactory
from tests.llmkeys.conftest import CAUSE, entitle
from tests.llmkeys.standin import MASTER_KEY, StandIn

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import django, time
django.setup()
from llmkeys import reconcile
print("ready", flush=True)
while True:
    reconcile.sync_batch(limit=8) or time.sleep(0.01)
"""


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


def start_worker(url: str) -> "subprocess.Popen[str]":
    database = connection.settings_dict
    secret = quote(str(database["PASSWORD"]))
    place = f"{database['HOST']}:{database['PORT']}/{database['NAME']}"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tesslate.settings",
        "DATABASE_URL": f"postgresql://{database['USER']}:{secret}@{place}",
        "LITELLM_URL": url,
        "LITELLM_MASTER_KEYS": MASTER_KEY,
        "LITELLM_CONCURRENCY": "2",
    }
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


@pytest.mark.django_db(transaction=True)
def test_S19_workers_killed_at_any_moment_leave_nothing_half_done(
    address: StandIn, settings: Settings, free: Plan, pro: Plan
) -> None:
    users = UserFactory.create_batch(60)
    for person in users:
        entitle(person, free)
    slow = {"route": "*", "kind": "slow", "delay": 0.02, "after_effect": True}
    address.app.book.switch_on(slow)
    for pause, count in ((0.2, 2), (0.4, 1)):
        workers = [start_worker(settings.LITELLM_URL) for _ in range(count)]
        time.sleep(pause)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()
        for person in users[::4]:
            entitle(User.objects.get(pk=person.pk), pro, cause=CAUSE)

    address.app.book.switch_off()
    VirtualKey.objects.update(lease_until=timezone.now(), next_attempt_at=timezone.now())
    reconcile.drain(seconds=30)
    keys = list(VirtualKey.objects.all())
    assert all(key.is_in_step for key in keys)
    assert set(address.keys) == {key.key_hash for key in keys}
    assert {address.key(key).max_budget for key in keys} == {1, 50}
    assert all(key.attempts == 0 and not key.in_doubt for key in keys)

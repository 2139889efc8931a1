"""Key sync against the gateway's stand-in, one worker process: syncs, audits, plan edits, and how
long an event takes until the gateway enforces it.

Baselines are the bare management calls behind each figure, made by the same client with the same
number of threads and no database. BENCH_KEYS (1500), BENCH_CROWD (100000) and BENCH_EVENTS (200)
change the effort.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.lib.load import percentile
from bench.lib.processes import OTHER_CORES, free_port, program, resident_bytes
from bench.lib.result import Result, compared
from sandbox.engines import Postgres, Valkey, running

KEYS = int(os.environ.get("BENCH_KEYS", "1500"))
CROWD = int(os.environ.get("BENCH_CROWD", "100000"))
EVENTS = int(os.environ.get("BENCH_EVENTS", "200"))
EVENTS_PER_SECOND = 20
MASTER_KEY = "sk-bench-master-key"
THREADS = 8


def results() -> Iterator[Result]:
    with system():
        prepare()
        yield from syncs()
        yield audit()
        yield from plan_edits()
        yield from events()


@contextlib.contextmanager
def system() -> Iterator[None]:
    """Engines and the stand-in up, settings in this process's environment, schema migrated."""
    with tempfile.TemporaryDirectory(prefix="tesslate-bench-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o711)  # as root PostgreSQL runs under another account
        postgres = Postgres(folder / "postgres", durable=False)
        valkey = Valkey(folder / "valkey", durable=False)
        models = [{"model_name": m, "litellm_params": {"model": f"openai/{m}"}} for m in "abc"]
        config = folder / "gateway.yaml"
        config.write_text(str({"model_list": models}))
        standin = {
            "SANDBOX_LITELLM_PORT": str(port),
            "SANDBOX_LITELLM_MASTER_KEY": MASTER_KEY,
            "SANDBOX_LITELLM_CONFIG": str(config),
        }
        command = [sys.executable, "-m", "sandbox.litellm"]
        with (
            running(postgres, valkey),
            program(command, port=port, cores=OTHER_CORES, environment=standin),
        ):
            postgres.ensure_database("tesslate")
            os.environ.update(
                {
                    "DEBUG": "true",
                    "DATA_DIR": name,
                    "DATABASE_URL": postgres.url("tesslate"),
                    "REDIS_URL": valkey.url(),
                    "LITELLM_URL": f"http://127.0.0.1:{port}",
                    "LITELLM_MASTER_KEYS": MASTER_KEY,
                    "LITELLM_CONCURRENCY": str(THREADS),
                    "DJANGO_SETTINGS_MODULE": "tesslate.settings",
                    "LOG_LEVEL": "ERROR",
                }
            )
            import django

            django.setup()
            yield


def prepare() -> None:
    """Two plans, and KEYS users on the first who have no key at the gateway yet."""
    from django.conf import settings
    from django.core.management import call_command
    from django.utils import timezone

    from accounts.models import User
    from llmkeys.provisioning import ensure_first_keys
    from plans.models import GatewayModel, Plan
    from tesslate.lib.cause import Cause

    call_command("migrate", verbosity=0)
    # As on a server: with DEBUG Django writes down every statement, parameters and all.
    settings.DEBUG = False
    models = [GatewayModel.objects.create(name=name, title=name) for name in "abc"]
    for rank, code in enumerate(["small", "large"], start=1001):
        plan = Plan.objects.create(
            code=code, name=code, rank=rank, rpm=rank, tpm=10**6, budget_cents=1000
        )
        plan.gateway_models.set(models[: rank - 1000])
    now = timezone.now()
    users = User.objects.bulk_create(
        User(email=f"user{number}@example.com", date_joined=now) for number in range(KEYS)
    )
    entitle((user.pk for user in users), "small")
    with quietly():
        ensure_first_keys([user.pk for user in users], cause=Cause.system("bench"))


def entitle(user_ids: Iterable[int], code: str) -> None:
    from datetime import timedelta

    from django.utils import timezone

    from plans.models import CurrentEntitlement, Plan

    plan, now = Plan.objects.get(code=code), timezone.now()
    CurrentEntitlement.objects.bulk_create(
        [
            CurrentEntitlement(
                user_id=user_id,
                plan=plan,
                source="default",
                period_start=now,
                period_end=now + timedelta(days=30),
                decided_at=now,
            )
            for user_id in user_ids
        ],
        batch_size=1000,
    )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without wake-ups: the bench is the worker."""
    from unittest import mock

    from llmkeys import marking

    with mock.patch.object(marking, "send"):
        yield


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def drain() -> None:
    from llmkeys import reconcile

    while reconcile.sync_batch():
        pass


def syncs() -> Iterator[Result]:
    """Every key made, then every key moved to another plan."""
    from llmkeys import marking
    from llmkeys.models import VirtualKey
    from plans.models import CurrentEntitlement, Plan
    from tesslate.lib.cause import Cause

    bare_creations, bare_updates = bare_calls()
    made = KEYS / timed(drain)
    assert not VirtualKey.objects.filter(observed=None).exists()
    yield compared("key_creations_per_second", made, "1/s", bare_creations)

    CurrentEntitlement.objects.update(plan=Plan.objects.get(code="large"))
    with quietly():
        marking.mark_keys(VirtualKey.objects.all(), cause=Cause.system("bench"))
    moved = KEYS / timed(drain)
    yield compared("key_updates_per_second", moved, "1/s", bare_updates)

    with quietly():
        marking.mark_keys(VirtualKey.objects.all(), cause=Cause.system("bench"))
    yield Result("key_syncs_without_change_per_second", round(KEYS / timed(drain), 1), "1/s")


def bare_calls() -> tuple[float, float]:
    """Creations and updates per second without anything of ours around them."""
    from llmkeys import gateway

    client, count = gateway.client(), 400
    values = [f"sk-{secrets.token_hex(24)}" for _ in range(count)]
    with ThreadPoolExecutor(THREADS) as threads:
        tokens: list[Any] = []

        def create() -> None:
            answers = threads.map(lambda value: client.create_key(value, {"max_budget": 1}), values)
            tokens.extend(answer["token"] for answer in answers)

        def update() -> None:
            list(threads.map(lambda token: client.update_key(token, {"rpm_limit": 9}), tokens))

        created, updated = count / timed(create), count / timed(update)
        list(threads.map(client.delete_key, tokens))
    return created, updated


def audit() -> Result:
    from llmkeys import audit, gateway

    client = gateway.client()

    def read() -> None:
        page, last = 0, 1
        while page < last:
            page += 1
            last = client.list_keys(page).total_pages

    bare = KEYS / timed(read)
    found = KEYS / timed(lambda: audit.run_audit(repair=False))
    return compared("audited_keys_per_second", found, "1/s", bare)


def plan_edits() -> Iterator[Result]:
    """An edit of rates and models with CROWD keys on the plan, until a key finds it in force."""
    from llmkeys import gateway, rollouts, shared_objects
    from llmkeys.models import VirtualKey
    from plans.models import GatewayModel, Plan
    from tesslate.lib.cause import Cause
    from tesslate.lib.crypto import decrypt

    crowd()
    plan = Plan.objects.get(code="large")
    key = VirtualKey.objects.exclude(secret="").filter(observed__isnull=False).earliest("pk")
    models = list(GatewayModel.objects.values_list("pk", flat=True))

    def edit() -> None:
        change = {"rpm": 77, "gateway_models": models}
        with quietly():
            rollouts.start(plan=plan, edit=change, cause=Cause.system("bench"))
        shared_objects.sync_plans()
        while gateway.client().probe(decrypt(key.secret)).models != set("abc"):
            time.sleep(0.01)

    yield Result(f"plan_edit_for_{CROWD}_keys", round(timed(edit), 3), "s")
    before = resident_bytes(os.getpid())
    budget = {"budget_cents": 2000}
    with quietly():
        rollout = rollouts.start(plan=plan, edit=budget, cause=Cause.system("bench"))
    batches = max(1, KEYS // rollouts.BATCH)
    seconds = timed(lambda: [rollouts.advance(rollout.pk) for _ in range(batches)])
    yield Result("fan_out_keys_per_second", round(batches * rollouts.BATCH / seconds, 1), "1/s")
    grown = (resident_bytes(os.getpid()) - before) / 2**20
    yield Result("fan_out_memory_growth", round(grown, 1), "MiB")
    rollouts.pause(rollout=rollout, cause=Cause.system("bench"))


def crowd() -> None:
    """Further users of the large plan, whose keys are in step as far as we know."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_user (password, is_superuser, email, display_name, is_staff,
                is_active, suspension_reason, date_joined)
            SELECT '', false, 'crowd' || n || '@example.com', '', false, true, '', now()
            FROM generate_series(1, %s) n
            """,
            [CROWD],
        )
    from accounts.models import User

    fresh = User.objects.filter(current_entitlement=None).values_list("pk", flat=True)
    entitle(list(fresh), "large")
    from llmkeys.models import VirtualKey

    template = VirtualKey.objects.filter(observed__isnull=False).earliest("pk")
    VirtualKey.objects.bulk_create(
        [
            VirtualKey(
                user_id=user_id,
                alias=f"crowd-{user_id}",
                key_hash=f"{user_id:064x}",
                secret=template.secret,
                last_four="0000",
                generation=1,
                observed_generation=1,
                observed=template.observed,
                desired=template.desired,
                dirty_since=None,
            )
            for user_id in User.objects.filter(virtual_keys=None).values_list("pk", flat=True)
        ],
        batch_size=2000,
    )


def events() -> Iterator[Result]:
    """From the commit of an event to the probe that finds it enforced, through the broker and a
    worker process, at EVENTS_PER_SECOND."""
    from llmkeys import services
    from llmkeys.models import VirtualKey
    from tesslate.lib.cause import Cause

    command = "-m celery -A tesslate worker -Q keys --concurrency 1 -l ERROR --without-gossip"
    worker = subprocess.Popen([sys.executable, *command.split()])
    keys = list(VirtualKey.objects.filter(user__email__startswith="user").order_by("-pk")[:EVENTS])
    VirtualKey.objects.filter(pk__in=[key.pk for key in keys]).update(enforced_at=None)
    begun: dict[int, float] = {}
    try:
        wait_for_workers(1)
        for key in keys:
            services.block_key(key=key, reason="bench", cause=Cause.system("bench"))
            begun[key.pk] = time.time()
            time.sleep(1 / EVENTS_PER_SECOND)
        deadline = time.monotonic() + 60
        waiting = VirtualKey.objects.filter(pk__in=begun, enforced_at=None)
        while waiting.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait(15)
    done = VirtualKey.objects.filter(pk__in=begun, enforced_at__isnull=False)
    lags = sorted(
        key.enforced_at.timestamp() - begun[key.pk] for key in done if key.enforced_at is not None
    )
    assert len(lags) == len(keys), f"{len(keys) - len(lags)} events were never enforced"
    yield Result("event_to_enforced_p50", round(percentile(lags, 0.5), 3), "s")
    yield Result("event_to_enforced_p99", round(percentile(lags, 0.99), 3), "s")


def wait_for_workers(count: int, seconds: float = 60) -> None:
    from tesslate.celery import app

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if len(app.control.ping(timeout=1) or ()) >= count:
            return
    raise RuntimeError("the workers did not start")

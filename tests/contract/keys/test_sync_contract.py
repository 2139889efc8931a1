"""Our reconciler against the gateway under contract: always the stand-in, over HTTP, and where
LITELLM_CONTRACT_URL names one the real proxy as well (`make contract`).

Lifecycle, rotation, budget windows and plan edits, judged by what keys can do.
"""

import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from llmkeys import (
    audit,
    gateway,
    marking,
    probes,
    reconcile,
    rollouts,
    rotation,
    services,
    shared_objects,
    upkeep,
)
from llmkeys.litellm_client import LiteLLMClient
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, GatewayModel, Plan
from plans.signals import entitlements_changed
from sandbox.litellm import Settings as StandInSettings
from sandbox.litellm import build_app
from sandbox.serving import served
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt
from tests.factories import UserFactory

pytestmark = [pytest.mark.contract, pytest.mark.django_db]

CONFIG = Path(__file__).resolve().parents[3] / "litellm.config.yaml"
STAND_IN_KEY = "sk-master-key-for-contract-tests"
SMALL, LARGE = "groq-llama-3.1-8b", "groq-llama-3.1-70b"
CAUSE = Cause.system("contract")
START = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
REAL = os.environ.get("LITELLM_CONTRACT_URL")
# A gateway may act on what it remembers for so long; see GATEWAY.md on its key cache.
OBEYS_WITHIN = float(os.environ.get("LITELLM_CONTRACT_CACHE_TTL", "60")) + 15


@pytest.fixture(scope="module", params=["stand-in", *(["real"] if REAL else [])])
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    if request.param == "real":
        yield str(REAL), os.environ["LITELLM_CONTRACT_MASTER_KEY"]
        return
    app = build_app(StandInSettings(master_key=STAND_IN_KEY, config=CONFIG))
    with served(app) as url:
        yield url, STAND_IN_KEY


@pytest.fixture(autouse=True)
def client(
    address: tuple[str, str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiteLLMClient]:
    """Ours, with a prefix of this test's own, so that runs do not meet."""
    url, master_key = address
    settings.LITELLM_KEY_PREFIX = f"contract-{secrets.token_hex(4)}"
    monkeypatch.setattr(marking, "send", lambda *args: None)
    ours = LiteLLMClient(url=url, master_keys=[master_key], timeout=30, concurrency=4)
    gateway.use(ours)
    yield ours
    for key in VirtualKey.objects.all():
        ours.delete_key(key.key_hash)
    gateway.use(None)
    ours.close()


@pytest.fixture
def plans() -> tuple[Plan, Plan]:
    models = [GatewayModel.objects.create(name=name, title=name) for name in (SMALL, LARGE)]
    made = []
    for number, (code, cents) in enumerate([("small", 100), ("large", 5000)], start=1):
        plan = Plan.objects.create(
            code=code, name=code, rank=2000 + number, rpm=500, tpm=500_000, budget_cents=cents
        )
        plan.gateway_models.set(models[:number])
        made.append(plan)
    return made[0], made[1]


@pytest.fixture
def user() -> User:
    return UserFactory.create()


def entitle(user: User, plan: Plan, start: datetime = START) -> None:
    CurrentEntitlement.objects.update_or_create(
        user=user,
        defaults={
            "plan": plan,
            "source": "default",
            "period_start": start,
            "period_end": start + timedelta(days=30),
            "decided_at": timezone.now(),
        },
    )
    entitlements_changed.send(sender=None, user_ids=[user.pk], cause=CAUSE)


def sync() -> None:
    for _ in range(6):
        past = timezone.now() - timedelta(seconds=1)
        VirtualKey.objects.update(next_attempt_at=past)
        shared_objects.sync_plans()
        if not reconcile.sync_batch():
            break
    behind = [key.last_error for key in VirtualKey.objects.all() if not key.is_in_step]
    assert behind == []


def only_key(user: User) -> VirtualKey:
    return VirtualKey.live.get(user=user)


def row(key: VirtualKey) -> dict[str, Any]:
    found = gateway.client().get_key(key.key_hash)
    assert found is not None
    return found


def chat(key: VirtualKey, model: str = SMALL, secret: str | None = None) -> int:
    answer = httpx.post(
        f"{gateway.client().url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {secret or decrypt(key.secret)}"},
        json={"model": model, "messages": [{"role": "user", "content": "Hello"}]},
        timeout=60,
    )
    return answer.status_code


def models_of(key: VirtualKey) -> frozenset[str]:
    return gateway.client().probe(decrypt(key.secret)).models


def enforced(key: VirtualKey) -> bool:
    """Probe until the gateway obeys, as the sweep does."""
    deadline = time.monotonic() + OBEYS_WITHIN
    while time.monotonic() < deadline:
        key.refresh_from_db()
        if key.probe_for is None:
            return key.enforced_at is not None
        time.sleep(1)
        VirtualKey.objects.filter(pk=key.pk).update(probe_at=timezone.now())
        probes.probe_due()
    return False


def test_S01_the_life_of_a_key(user: User, plans: tuple[Plan, Plan]) -> None:
    small, large = plans
    entitle(user, small)
    sync()
    key = only_key(user)
    assert models_of(key) == {SMALL}
    assert chat(key) == 200
    assert chat(key, LARGE) == 403

    entitle(user, large)
    sync()
    assert models_of(key) == {SMALL, LARGE}
    assert chat(key, LARGE) == 200

    services.block_key(key=key, reason="contract", cause=CAUSE)
    sync()
    assert enforced(key)
    assert chat(key) == 401

    services.unblock_key(key=key, cause=CAUSE)
    sync()
    assert chat(key) == 200

    secret = decrypt(key.secret)
    services.retire_key(key=key, cause=CAUSE)
    sync()
    assert enforced(key)
    assert chat(key, secret=secret) == 401
    assert gateway.client().get_key(key.key_hash) is None


def test_S14_a_resync_writes_nothing_and_an_audit_finds_nothing(
    user: User, plans: tuple[Plan, Plan]
) -> None:
    entitle(user, plans[0])
    sync()
    before = row(only_key(user)).get("settings_updated_at")
    entitle(user, plans[0])
    sync()
    assert row(only_key(user)).get("settings_updated_at") == before
    counts = audit.run_audit(repair=False).counts
    assert counts["in step"] == 1
    assert not {"drifted", "missing", "unwanted", "plan drifted"} & set(counts)


def test_S04_the_same_creation_twice_is_one_key(user: User, plans: tuple[Plan, Plan]) -> None:
    entitle(user, plans[0])
    sync()
    key = only_key(user)
    VirtualKey.objects.update(observed=None)
    marking.mark_users([user.pk], cause=CAUSE)
    sync()
    assert row(key)["key_alias"] == key.alias


def test_S11_hand_edits_are_found_and_repaired(user: User, plans: tuple[Plan, Plan]) -> None:
    entitle(user, plans[0])
    sync()
    key = only_key(user)
    edit: dict[str, Any] = {
        "models": [],
        "max_budget": None,
        "rpm_limit": 7,
        "blocked": True,
        "duration": "1h",
    }
    gateway.client().update_key(key.key_hash, edit)
    assert audit.run_audit().counts["drifted"] == 1
    sync()
    assert models_of(key) == {SMALL}
    assert (row(key)["max_budget"], row(key)["rpm_limit"], row(key)["expires"]) == (1, None, None)


def test_S29_a_deleted_key_comes_back_with_its_value(user: User, plans: tuple[Plan, Plan]) -> None:
    entitle(user, plans[0])
    sync()
    key = only_key(user)
    gateway.client().delete_key(key.key_hash)
    assert audit.run_audit().counts["missing"] == 1
    sync()
    assert models_of(key) == {SMALL}
    assert row(key)["metadata"]["user"] == user.pk


def test_U01_a_window_starts_once_with_the_period(user: User, plans: tuple[Plan, Plan]) -> None:
    entitle(user, plans[0])
    sync()
    key = only_key(user)
    gateway.client().update_key(key.key_hash, {"spend": 0.75})
    entitle(user, plans[1])
    sync()
    assert row(key)["spend"] == pytest.approx(0.75)

    entitle(user, plans[1], START + timedelta(days=30))
    sync()
    assert row(key)["spend"] == 0
    assert row(key)["budget_reset_at"] is None
    gateway.client().update_key(key.key_hash, {"spend": 0.25})
    services.heal_key(user_id=user.pk, cause=CAUSE)
    sync()
    assert row(key)["spend"] == pytest.approx(0.25)


def test_S16_a_spent_budget_stops_the_key_and_a_new_window_frees_it(
    user: User, plans: tuple[Plan, Plan]
) -> None:
    entitle(user, plans[0])
    sync()
    key = only_key(user)
    gateway.client().update_key(key.key_hash, {"spend": 1.5})
    assert chat(key) == 422
    services.reset_spend(user=user, reason="contract", cause=CAUSE)
    sync()
    assert chat(key) == 200


def test_R01_R02_rotation_with_overlap_and_one_budget(user: User, plans: tuple[Plan, Plan]) -> None:
    entitle(user, plans[0])
    sync()
    old = only_key(user)
    gateway.client().update_key(old.key_hash, {"spend": 0.4})
    new = rotation.rotate_key(key=old, cause=CAUSE, overlap=timedelta(hours=1))
    sync()
    assert models_of(old) == models_of(new) == {SMALL}
    rows = [row(old), row(new)]
    left = sum(Decimal(str(found["max_budget"])) - Decimal(str(found["spend"])) for found in rows)
    assert left == pytest.approx(Decimal("0.6"), abs=Decimal("0.00001"))

    secret = decrypt(old.secret)
    VirtualKey.objects.filter(pk=old.pk).update(retire_at=timezone.now())
    upkeep.retire_due()
    sync()
    assert enforced(old)
    assert chat(old, secret=secret) == 401
    sync()
    assert row(new)["max_budget"] - row(new)["spend"] == pytest.approx(0.6, abs=1e-5)


def test_R07_a_leaked_key_is_refused(user: User, plans: tuple[Plan, Plan]) -> None:
    entitle(user, plans[0])
    sync()
    old = only_key(user)
    secret = decrypt(old.secret)
    new = rotation.revoke_key(key=old, cause=CAUSE, reason="leak")
    assert new is not None
    sync()
    assert enforced(old)
    assert chat(old, secret=secret) == 401
    assert chat(new) == 200


def test_S22_a_plan_edit_reaches_its_keys_without_touching_them(
    user: User, plans: tuple[Plan, Plan]
) -> None:
    small, _ = plans
    entitle(user, small)
    sync()
    key = only_key(user)
    models = list(GatewayModel.objects.values_list("pk", flat=True))
    before = row(key).get("settings_updated_at")
    rollout = rollouts.start(plan=small, edit={"rpm": 321, "gateway_models": models}, cause=CAUSE)
    shared_objects.sync_plans()
    assert rollout.state == "done"
    assert models_of(key) == {SMALL, LARGE}
    assert row(key)["litellm_budget_table"]["rpm_limit"] == 321
    assert row(key).get("settings_updated_at") == before

    rollouts.roll_back(rollout=rollout, cause=CAUSE)
    shared_objects.sync_plans()
    assert models_of(key) == {SMALL}
    assert chat(key, LARGE) == 403


def test_S15_a_plan_whose_models_are_all_off_lets_nothing_through(
    user: User, plans: tuple[Plan, Plan]
) -> None:
    entitle(user, plans[0])
    sync()
    key = only_key(user)
    GatewayModel.objects.update(disabled_at=timezone.now())
    marking.mark_plans([plans[0].pk], cause=CAUSE)
    shared_objects.sync_plans()
    assert models_of(key) == frozenset()
    assert chat(key) == 403

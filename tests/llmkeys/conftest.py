"""A gateway, plans with models, and users who have an entitlement."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from llmkeys import gateway, marking, reconcile
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, Plan
from plans.signals import entitlements_changed
from tesslate.lib.cause import Cause
from tests.factories import GatewayModelFactory, PlanFactory
from tests.llmkeys.standin import StandIn, client_of

CAUSE = Cause.system("test")
PERIOD_START = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """The gateway; wake-ups stay where they are, so that tests take each step themselves."""
    transport = StandIn(tmp_path)
    gateway.use(client_of(transport))
    monkeypatch.setattr(marking, "send", lambda *args: None)
    yield transport
    gateway.use(None)
    transport.close()


@pytest.fixture
def free(db: None) -> Plan:
    models = [GatewayModelFactory.create(name="small")]
    return PlanFactory.create(
        code="free",
        rank=1,
        rpm=20,
        tpm=20_000,
        budget_cents=100,
        is_default=True,
        gateway_models=models,
    )


@pytest.fixture
def pro(free: Plan) -> Plan:
    models = [*free.gateway_models.all(), GatewayModelFactory.create(name="large")]
    return PlanFactory.create(
        code="pro", rank=3, rpm=500, tpm=500_000, budget_cents=5000, gateway_models=models
    )


def entitle(user: User, plan: Plan, *, cause: Cause = CAUSE, **fields: Any) -> None:
    """What plans.entitlements does when it has decided: write the row, send the signal."""
    values = {
        "plan": plan,
        "source": "default",
        "period_start": PERIOD_START,
        "period_end": PERIOD_START + timedelta(days=30),
        "decided_at": timezone.now(),
        **fields,
    }
    CurrentEntitlement.objects.update_or_create(user=user, defaults=values)
    entitlements_changed.send(sender=None, user_ids=[user.pk], cause=cause)


def sync() -> int:
    """Work on everything that is due; nothing is left waiting for its backoff."""
    done = 0
    for _ in range(8):
        VirtualKey.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
        turn = reconcile.sync_batch()
        if turn == 0:
            break
        done += turn
    return done


def only_key(user: User) -> VirtualKey:
    return VirtualKey.objects.get(user=user)


@pytest.fixture
def key(standin: StandIn, user: User, free: Plan) -> VirtualKey:
    """Alice's key on the free plan, in step; the calls that led there are forgotten."""
    entitle(user, free)
    sync()
    standin.forget_calls()
    return only_key(user)

"""LITELLM_URL names another gateway."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from llmkeys import addresses, breaker, gateway, reconcile, shared_objects, switches
from llmkeys.models import GatewayState, KillSwitch, VirtualKey
from plans.models import Plan
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE, entitle, only_key, sync
from tests.llmkeys.standin import StandIn, client_of

pytestmark = pytest.mark.django_db

NEW_ADDRESS = "http://second-region.test"


@pytest.fixture(autouse=True)
def first_address(key: VirtualKey) -> None:
    """The key is in step at the gateway that is in use."""
    assert addresses.follow()


@pytest.fixture
def second(tmp_path: Path) -> Iterator[StandIn]:
    folder = tmp_path / "second"
    folder.mkdir()
    transport = StandIn(folder)
    yield transport
    transport.close()


def move(settings: Settings, second: StandIn) -> None:
    settings.LITELLM_URL = NEW_ADDRESS
    gateway.use(client_of(second))


def started_now() -> bool:
    return addresses.follow(started=timezone.now())


def test_S34_a_new_gateway_gets_every_key_with_its_value_and_its_spend(
    settings: Settings, standin: StandIn, second: StandIn, key: VirtualKey
) -> None:
    VirtualKey.objects.update(spend="0.7")
    move(settings, second)
    assert started_now()
    shared_objects.sync_plans()
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert second.key(key).spend == pytest.approx(0.7)
    assert second.teams.keys() == {"tesslate-free"}
    assert standin.calls == []


def test_S34_a_gateway_restored_from_the_old_one_is_only_read(
    settings: Settings, second: StandIn, user: User, free: Plan
) -> None:
    move(settings, second)
    started_now()
    shared_objects.sync_plans()
    sync()
    second.forget_calls()
    settings.LITELLM_URL = "http://third.test"
    gateway.use(client_of(second))
    started_now()
    shared_objects.sync_plans()
    sync()
    assert only_key(user).is_in_step
    assert second.writes("/key/") == []


def test_S34_an_outage_of_the_old_gateway_does_not_stop_the_new_one(
    settings: Settings, standin: StandIn, second: StandIn
) -> None:
    standin.before = faults.refused
    breaker.open_for(breaker.look(gateway.client()) or AssertionError())  # type: ignore[arg-type]
    assert breaker.is_open()
    move(settings, second)
    started_now()
    assert not breaker.is_open()
    assert not GatewayState.objects.exclude(opened_at=None).exists()


def test_S34_a_worker_that_still_has_the_old_address_leaves_keys_alone(
    settings: Settings, standin: StandIn, second: StandIn, user: User, pro: Plan
) -> None:
    old = settings.LITELLM_URL
    move(settings, second)
    started_now()
    settings.LITELLM_URL = old
    gateway.use(client_of(standin))
    entitle(user, pro)
    hour_ago = timezone.now() - timedelta(hours=1)
    assert addresses.follow(started=hour_ago) is False
    assert reconcile.sync_batch() == 0
    assert shared_objects.sync_plans() == 0
    assert standin.calls == []


def test_S34_a_switch_is_proven_anew_at_the_new_gateway(
    settings: Settings, second: StandIn, user: User
) -> None:
    switches.pull(scope=KillSwitch.Scope.USER, target=user, reason="abuse", cause=CAUSE)
    sync()
    assert switches.prove_due() == 1
    move(settings, second)
    started_now()
    assert switches.prove_due() == 0
    shared_objects.sync_plans()
    sync()
    assert switches.prove_due() == 1


def test_an_unchanged_address_marks_nothing(user: User) -> None:
    assert started_now()
    assert only_key(user).is_in_step

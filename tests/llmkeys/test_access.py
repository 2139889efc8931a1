"""Access given and taken away: people, plans, models, and proof that the gateway obeys."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from accounts.signals import accounts_changed
from llmkeys import gateway, probes, services, shared_objects, switches
from llmkeys.credentials import credential_for
from llmkeys.errors import KeyBlocked, KeyNotReady, ModelsWithdrawn
from llmkeys.models import KillSwitch, PlanAtGateway, VirtualKey
from llmkeys.selectors import key_state
from plans.models import GatewayModel, Plan
from plans.signals import plan_changed
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt
from tests.factories import UserFactory
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE, entitle, only_key, sync
from tests.llmkeys.faults import answering, on
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db


def change(user: User, **fields: object) -> None:
    for name, value in fields.items():
        setattr(user, name, value)
    user.save()
    accounts_changed.send(sender=None, user_ids=[user.pk], cause=CAUSE)


def models_of(key: VirtualKey) -> frozenset[str]:
    return gateway.client().probe(decrypt(key.secret)).models


def test_no_credential_before_the_gateway_has_the_key(
    standin: StandIn, user: User, free: Plan
) -> None:
    with pytest.raises(KeyNotReady) as early:
        credential_for(user.pk)
    assert early.value.retry_after == 1
    assert key_state(user)["state"] == "none"

    entitle(user, free)
    assert key_state(user)["state"] == "pending"
    sync()
    assert credential_for(user.pk).secret.startswith("sk-")
    assert key_state(user)["state"] == "ready"


def test_a_credential_does_not_show_its_secret(key: VirtualKey, user: User) -> None:
    credential = credential_for(user.pk)
    assert credential.secret not in repr(credential)


def test_S27_a_closed_account_loses_its_key_for_good(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    secret = decrypt(key.secret)
    standin.before = on("/key/delete", answering(503), times=3)
    change(user, deleted_at=timezone.now(), is_active=False)
    entitle(user, pro)  # a late webhook
    sync()
    assert standin.keys == {}
    assert gateway.client().probe(secret).is_refused
    key.refresh_from_db()
    assert key.removed_at is not None
    assert key.events.exists()
    assert VirtualKey.objects.count() == 1
    with pytest.raises(KeyNotReady):
        credential_for(user.pk)


def test_S28_a_suspended_user_is_blocked_and_gets_the_same_key_back(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    change(user, suspended_at=timezone.now())
    with pytest.raises(KeyBlocked):
        credential_for(user.pk)
    sync()
    assert standin.key(key).blocked
    assert only_key(user).enforced_at is not None

    change(user, suspended_at=None)
    sync()
    assert not standin.key(key).blocked
    assert models_of(key) == {"small"}
    assert credential_for(user.pk).key_id == key.pk


def test_staff_block_and_unblock_one_key(standin: StandIn, key: VirtualKey, user: User) -> None:
    services.block_key(key=key, reason="abuse", cause=CAUSE)
    with pytest.raises(KeyBlocked):
        credential_for(user.pk)
    assert key_state(user)["state"] == "blocked"
    sync()
    assert standin.key(key).blocked
    services.unblock_key(key=key, cause=CAUSE)
    sync()
    assert not standin.key(key).blocked


def test_S30_a_gateway_that_goes_on_serving_an_old_copy_is_watched_until_it_obeys(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    standin.gateway.remember_for(600)
    for _ in range(2):  # both processes know the key now
        models_of(key)
    change(user, suspended_at=timezone.now())
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert key.enforced_at is None
    assert key.probe_for == {"refused": True}

    standin.gateway.remember_for(0)
    VirtualKey.objects.update(probe_at=timezone.now())
    probes.probe_due()
    assert only_key(user).enforced_at is not None
    assert only_key(user).probe_at is None


def test_S30_disobedience_raises_one_alarm(
    standin: StandIn, key: VirtualKey, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    standin.before = on("/v1/models", answering(200, {"data": [{"id": "small"}]}), times=99)
    change(user, suspended_at=timezone.now())
    sync()
    VirtualKey.objects.update(probe_since=timezone.now() - timedelta(seconds=91))
    for _ in range(3):
        VirtualKey.objects.update(probe_at=timezone.now())
        probes.probe_due()
    assert only_key(user).enforcement_alarm_at is not None
    assert caplog.text.count("does not obey") == 1
    # Obeys at last: the alarm ends.
    standin.before = None
    VirtualKey.objects.update(probe_at=timezone.now())
    probes.probe_due()
    assert only_key(user).enforcement_alarm_at is None


def test_a_probe_that_cannot_be_made_proves_nothing(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    standin.before = on("/v1/models", faults.silent)
    change(user, suspended_at=timezone.now())
    sync()
    assert only_key(user).enforced_at is None
    assert only_key(user).probe_at is not None


def test_a_key_unblocked_while_being_watched_is_watched_no_more(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    standin.before = on("/v1/models", faults.silent)
    change(user, suspended_at=timezone.now())
    sync()
    change(user, suspended_at=None)
    sync()
    assert only_key(user).probe_for is None


def test_a_downgrade_is_proved_too(standin: StandIn, user: User, free: Plan, pro: Plan) -> None:
    entitle(user, pro)
    sync()
    entitle(user, free)
    sync()
    assert models_of(only_key(user)) == {"small"}
    assert only_key(user).enforced_at is not None


def test_S25_a_model_taken_from_a_plan_is_refused_from_the_next_call_on(
    standin: StandIn, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    sync()
    pro.gateway_models.remove(GatewayModel.objects.get(name="large"))
    plan_changed.send(sender=None, plan=pro, cause=CAUSE)
    standin.forget_calls()
    shared_objects.sync_plans()
    assert models_of(only_key(user)) == {"small"}
    assert standin.writes("/key/") == []
    assert PlanAtGateway.objects.get(plan=pro).enforced_at is not None


def test_a_disabled_model_leaves_every_plan(standin: StandIn, user: User, pro: Plan) -> None:
    entitle(user, pro)
    sync()
    GatewayModel.objects.filter(name="large").update(disabled_at=timezone.now())
    plan_changed.send(sender=None, plan=pro, cause=CAUSE)
    shared_objects.sync_plans()
    assert models_of(only_key(user)) == {"small"}


def test_S15_a_plan_whose_models_are_all_disabled_opens_nothing(
    standin: StandIn, key: VirtualKey, free: Plan
) -> None:
    GatewayModel.objects.update(disabled_at=timezone.now())
    plan_changed.send(sender=None, plan=free, cause=CAUSE)
    shared_objects.sync_plans()
    assert models_of(key) == frozenset()
    assert all(team.models for team in standin.teams.values())


# The kill switch


@pytest.fixture
def cast(standin: StandIn, user: User, stranger: User, free: Plan, pro: Plan) -> None:
    """Alice on pro, Mallory on free."""
    entitle(user, pro)
    entitle(stranger, free)
    sync()


def pull(scope: str, target: GatewayModel | Plan | User | None) -> KillSwitch:
    switch = switches.pull(scope=scope, target=target, reason="incident 7", cause=CAUSE)
    shared_objects.sync_plans()
    sync()
    assert switches.prove_due() == 1
    switch.refresh_from_db()
    return switch


def lift(switch: KillSwitch) -> None:
    switches.lift(switch=switch, cause=CAUSE)
    shared_objects.sync_plans()
    sync()


def test_a_model_is_switched_off_and_on(cast: None, user: User, stranger: User) -> None:
    switch = pull("model", GatewayModel.objects.get(name="small"))
    assert models_of(only_key(user)) == {"large"}
    assert models_of(only_key(stranger)) == frozenset()
    assert switch.proof is not None
    assert switch.proof["keys_probed"] == 2
    lift(switch)
    assert models_of(only_key(user)) == {"small", "large"}


def test_a_plan_is_switched_off_and_on(cast: None, user: User, stranger: User, pro: Plan) -> None:
    switch = pull("plan", pro)
    assert models_of(only_key(user)) == frozenset()
    assert models_of(only_key(stranger)) == {"small"}
    with pytest.raises(ModelsWithdrawn):
        credential_for(user.pk)
    credential_for(stranger.pk)
    lift(switch)
    credential_for(user.pk)
    assert models_of(only_key(user)) == {"small", "large"}


def test_a_user_is_switched_off_and_on(cast: None, user: User, stranger: User) -> None:
    switch = pull("user", user)
    assert gateway.client().probe(decrypt(only_key(user).secret)).is_refused
    with pytest.raises(KeyBlocked):
        credential_for(user.pk)
    lift(switch)
    assert models_of(only_key(user)) == {"small", "large"}


def test_everyone_is_switched_off_in_a_handful_of_calls(
    cast: None, standin: StandIn, user: User, stranger: User
) -> None:
    standin.forget_calls()
    switch = pull("everyone", None)
    assert len(standin.writes()) <= 2 * Plan.objects.count()
    assert models_of(only_key(user)) == models_of(only_key(stranger)) == frozenset()
    with pytest.raises(ModelsWithdrawn):
        credential_for(stranger.pk)
    lift(switch)
    assert models_of(only_key(stranger)) == {"small"}


def test_a_switch_lifts_itself_when_its_time_is_over(
    cast: None, standin: StandIn, user: User
) -> None:
    switch = switches.pull(
        scope="user",
        target=user,
        reason="cool down",
        cause=CAUSE,
        expires_at=timezone.now() + timedelta(hours=1),
    )
    sync()
    KillSwitch.objects.update(expires_at=timezone.now())
    assert switches.lift_expired() == 1
    sync()
    credential_for(user.pk)
    switch.refresh_from_db()
    assert switch.lifted_at is not None


def test_a_switch_is_not_proven_while_a_key_still_works(
    cast: None, standin: StandIn, user: User
) -> None:
    switches.pull(scope="user", target=user, reason="x", cause=Cause.system("t"))
    sync()
    standin.before = on("/v1/models", answering(200, {"data": [{"id": "small"}]}), times=9)
    assert switches.prove_due() == 0


def test_two_first_sights_of_a_user_make_one_key(standin: StandIn, free: Plan) -> None:
    person = UserFactory.create()
    entitle(person, free)
    entitle(person, free)
    assert VirtualKey.objects.filter(user=person).count() == 1

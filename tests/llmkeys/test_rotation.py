"""A new key in place of an old one: overlap, undo, leaks, and one budget for both."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from llmkeys import budgets, gateway, reconcile, recording, rotation, services, upkeep
from llmkeys.credentials import credential_for
from llmkeys.errors import NothingToUndo
from llmkeys.litellm_client import Probe
from llmkeys.models import VirtualKey
from plans.models import Plan
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt
from tesslate.lib.errors import Conflict
from tests.factories import UserFactory
from tests.llmkeys import faults
from tests.llmkeys.conftest import CAUSE, entitle, sync
from tests.llmkeys.faults import answering, on
from tests.llmkeys.standin import Fault, StandIn

pytestmark = pytest.mark.django_db


def probe(key: VirtualKey, secret: str | None = None) -> Probe:
    return gateway.client().probe(secret or decrypt(key.secret))


def rotate(key: VirtualKey, overlap: timedelta = timedelta(hours=1)) -> VirtualKey:
    new = rotation.rotate_key(key=key, cause=CAUSE, overlap=overlap)
    sync()
    new.refresh_from_db()
    return new


def unseen_key(user: User, plan: Plan) -> VirtualKey:
    """A key whose worker died right after the gateway had made it."""
    entitle(user, plan)
    with mock.patch.object(recording, "record", return_value=False):
        reconcile.sync_batch()
    VirtualKey.objects.update(lease_until=timezone.now())
    return VirtualKey.objects.get(user=user)


def caps(standin: StandIn, *keys: VirtualKey) -> list[float]:
    return [standin.key(key).max_budget or 0 for key in keys]


def may_still_spend(standin: StandIn, *keys: VirtualKey) -> float:
    rows = [standin.key(key) for key in keys]
    return sum(max(0.0, (row.max_budget or 0) - row.spend) for row in rows)


def test_R01_old_and_new_key_work_until_the_overlap_ends(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    old_secret = decrypt(key.secret)
    new = rotate(key)
    assert probe(key).models == probe(new).models == {"small"}
    assert credential_for(user.pk).key_id == new.pk

    VirtualKey.objects.filter(pk=key.pk).update(retire_at=timezone.now())
    upkeep.retire_due()
    sync()
    assert probe(key, old_secret).is_refused
    assert probe(new).models == {"small"}
    key.refresh_from_db()
    assert key.removed_at is not None
    assert key.enforced_at is not None
    assert key.secret == ""


@pytest.mark.parametrize("spent", [0, 0.4, 0.999, 1, 1.2])
def test_R02_the_budget_is_never_doubled_and_the_spend_is_carried_over(
    standin: StandIn, key: VirtualKey, spent: float
) -> None:
    standin.spend(key, spent)
    new = rotate(key)
    assert standin.key(new).spend == pytest.approx(spent)
    assert may_still_spend(standin, key, new) == pytest.approx(max(0, 1 - spent), abs=1e-5)


def test_R02_the_old_key_is_lowered_before_the_new_one_is_made(
    standin: StandIn, key: VirtualKey
) -> None:
    rotate(key)
    paths = [path for path, _ in standin.calls if path in ("/key/update", "/key/generate")]
    assert paths == ["/key/update", "/key/generate"]


def test_R02_a_failure_to_lower_the_old_key_holds_the_new_one_back(
    standin: StandIn, key: VirtualKey
) -> None:
    standin.before = on("/key/update", answering(500))
    new = rotation.rotate_key(key=key, cause=CAUSE, overlap=timedelta(hours=1))
    reconcile.sync_batch(limit=10)
    assert new.key_hash not in standin.keys
    sync()
    assert may_still_spend(standin, key, new) == pytest.approx(1, abs=1e-5)


def test_R02_what_is_spent_on_the_old_key_before_it_can_be_lowered_counts_for_both(
    standin: StandIn, key: VirtualKey
) -> None:
    standin.before = on("/key/update", answering(500))
    new = rotation.rotate_key(key=key, cause=CAUSE, overlap=timedelta(hours=1))
    reconcile.sync_batch(limit=10)
    standin.spend(key, 0.9)
    VirtualKey.objects.update(next_attempt_at=timezone.now())
    reconcile.sync_batch(limit=10)
    assert new.key_hash not in standin.keys
    VirtualKey.objects.update(next_attempt_at=timezone.now())
    sync()
    assert may_still_spend(standin, key, new) == pytest.approx(0.1, abs=1e-5)


def test_R02_what_the_old_key_left_goes_to_the_new_one_in_the_end(
    standin: StandIn, key: VirtualKey
) -> None:
    standin.spend(key, 0.4)
    new = rotate(key)
    standin.spend(key, 0.45)
    VirtualKey.objects.filter(pk=key.pk).update(retire_at=timezone.now())
    upkeep.retire_due()
    sync()
    # 40 cents before and 5 during the overlap on the old key leave 55.
    assert may_still_spend(standin, new) == pytest.approx(0.55, abs=1e-5)


def test_R02_a_renewal_during_the_overlap_is_one_budget_too(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    standin.spend(key, 0.4)
    new = rotate(key)
    entitle(user, free, period_start=datetime(2026, 12, 5, 9, 30, tzinfo=UTC))
    sync()
    assert standin.key(key).spend == standin.key(new).spend == 0
    assert may_still_spend(standin, key, new) == pytest.approx(1, abs=1e-5)


def test_R03_rotating_twice_leaves_two_keys_at_most(standin: StandIn, key: VirtualKey) -> None:
    second = rotate(key)
    third = rotate(second)
    assert set(standin.keys) == {second.key_hash, third.key_hash}
    assert may_still_spend(standin, second, third) == pytest.approx(1, abs=1e-5)


def test_R04_a_plan_change_reaches_both_keys(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    new = rotate(key)
    entitle(user, pro)
    sync()
    assert probe(key).models == probe(new).models == {"small", "large"}
    assert may_still_spend(standin, key, new) == pytest.approx(50, abs=1e-5)


def test_R05_what_a_key_spent_counts_although_nobody_wrote_down_that_it_was_made(
    standin: StandIn, user: User, free: Plan
) -> None:
    key = unseen_key(user, free)
    standin.spend(key, 0.4)
    new = rotation.revoke_key(key=key, cause=CAUSE, reason="leak")
    assert new is not None
    sync()
    assert may_still_spend(standin, new) == pytest.approx(0.6, abs=1e-5)


def test_R05_what_a_key_spent_counts_although_nobody_wrote_down_that_it_was_deleted(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    standin.spend(key, 0.4)
    services.retire_key(key=key, cause=CAUSE)
    with mock.patch.object(recording, "record", return_value=False):
        reconcile.sync_batch()
    assert key.key_hash not in standin.keys
    VirtualKey.objects.update(lease_until=timezone.now())
    new = services.create_key(user=user, label="another", cause=CAUSE)
    sync()
    assert may_still_spend(standin, new) == pytest.approx(0.6, abs=1e-5)


def test_R05_what_a_key_spent_counts_although_nobody_wrote_down_that_it_was_renewed(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    entitle(user, free, period_start=datetime(2026, 12, 5, 9, 30, tzinfo=UTC))
    with mock.patch.object(recording, "record", return_value=False):
        reconcile.sync_batch()
    standin.spend(key, 0.4)
    VirtualKey.objects.update(lease_until=timezone.now())
    new = rotation.revoke_key(key=key, cause=CAUSE, reason="leak")
    assert new is not None
    sync()
    assert may_still_spend(standin, new) == pytest.approx(0.6, abs=1e-5)


@pytest.mark.parametrize("after", [faults.silent, answering(500)])
def test_R05_a_crash_between_new_and_old_ends_in_one_key(
    standin: StandIn, key: VirtualKey, after: Fault
) -> None:
    standin.after = on("/key/generate", after)
    new = rotate(key)
    VirtualKey.objects.filter(pk=key.pk).update(retire_at=timezone.now())
    standin.after = on("/key/delete", after)
    upkeep.retire_due()
    sync()
    assert set(standin.keys) == {new.key_hash}


def test_R06_a_key_that_is_retiring_is_not_given_more_time(
    standin: StandIn, key: VirtualKey
) -> None:
    rotate(key)
    key.refresh_from_db()
    end = key.retire_at
    with pytest.raises(Conflict):
        rotation.rotate_key(key=key, cause=CAUSE, overlap=timedelta(days=9))
    key.refresh_from_db()
    assert key.retire_at == end


def test_R07_a_leaked_key_stops_at_once_and_a_probe_proves_it(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    secret = decrypt(key.secret)
    new = rotation.revoke_key(key=key, cause=CAUSE, reason="found on a forum")
    assert new is not None
    sync()
    assert probe(key, secret).is_refused
    key.refresh_from_db()
    assert key.enforced_at is not None
    assert credential_for(user.pk).key_id == new.pk


def test_R07_a_leaked_key_that_was_replaced_already_stops_at_once_too(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    secret = decrypt(key.secret)
    new = rotate(key)
    assert rotation.revoke_key(key=key, cause=CAUSE, reason="found on a forum") == new
    sync()
    assert probe(key, secret).is_refused
    assert set(standin.keys) == {new.key_hash}


def test_R08_use_of_the_old_key_near_its_end_is_told(
    standin: StandIn, key: VirtualKey, mailoutbox: list[object]
) -> None:
    rotate(key, overlap=timedelta(hours=20))
    assert upkeep.warn_about_use() == 0
    VirtualKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now() + timedelta(minutes=1))
    assert upkeep.warn_about_use() == 1
    assert upkeep.warn_about_use() == 0
    assert len(mailoutbox) == 1


def test_R02_spend_on_a_key_that_nobody_saw_being_made_counts_during_the_overlap(
    standin: StandIn, user: User, free: Plan
) -> None:
    old = unseen_key(user, free)
    standin.spend(old, 0.88)
    new = rotate(old)
    assert may_still_spend(standin, old, new) == pytest.approx(0.12, abs=1e-5)


def test_R02_spend_on_such_a_key_counts_on_one_made_after_its_end(
    standin: StandIn, user: User, free: Plan
) -> None:
    old = unseen_key(user, free)
    standin.spend(old, 0.88)
    services.retire_key(key=old, cause=CAUSE)
    sync()
    new = services.create_key(user=user, cause=CAUSE)
    sync()
    assert may_still_spend(standin, new) == pytest.approx(0.12, abs=1e-5)


def test_R09_bulk_rotation_resumes_where_it_stopped(standin: StandIn, free: Plan) -> None:
    for person in UserFactory.create_batch(5):
        entitle(person, free)
    sync()
    VirtualKey.objects.update(created_at=timezone.now() - timedelta(days=100))
    rotate_all("--older-than=90", "--limit=2")
    assert VirtualKey.objects.filter(lifecycle="retiring").count() == 2
    rotate_all("--older-than=90")
    rotate_all("--older-than=90")
    assert VirtualKey.objects.filter(lifecycle="retiring").count() == 5
    assert VirtualKey.objects.filter(lifecycle="active").count() == 5


def test_R09_bulk_rotation_says_first_what_it_would_do(standin: StandIn, free: Plan) -> None:
    for person in UserFactory.create_batch(2):
        entitle(person, free)
    assert "2 keys of 2 customers to rotate" in rotate_all("--dry-run")
    assert "No key to rotate" in rotate_all("--dry-run", "--older-than=1")
    with pytest.raises(CommandError, match="--dry-run --apply is required"):
        call_command("rotate_keys", stdout=StringIO())
    assert not VirtualKey.objects.exclude(lifecycle="active").exists()


@pytest.mark.parametrize("argument", ["--older-than=-5", "--limit=-1", "--rate=0", "--rate=nan"])
def test_R09_bulk_rotation_refuses_numbers_without_sense(argument: str) -> None:
    with pytest.raises(CommandError, match=argument.partition("=")[0]):
        rotate_all(argument)


def test_R09_a_second_run_leaves_rotations_under_way_alone_and_says_so(
    standin: StandIn, key: VirtualKey
) -> None:
    rotate_all("--older-than=0")
    sync()
    assert len(standin.keys) == 2
    assert "1 left alone" in rotate_all("--older-than=0")
    assert VirtualKey.objects.count() == 2

    VirtualKey.objects.filter(pk=key.pk).update(retire_at=timezone.now())
    upkeep.retire_due()
    rotate_all("--older-than=0")
    assert VirtualKey.objects.count() == 3


def test_R09_a_key_that_its_owner_rotates_meanwhile_does_not_stop_the_run(
    standin: StandIn, free: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for person in UserFactory.create_batch(2):
        entitle(person, free)
    sync()
    first, second = VirtualKey.objects.order_by("pk")
    rotate_key = rotation.rotate_key

    def rotate_both(*, key: VirtualKey, cause: Cause) -> VirtualKey:
        if key == first:
            rotate_key(key=second, cause=CAUSE)
        return rotate_key(key=key, cause=cause)

    monkeypatch.setattr(rotation, "rotate_key", rotate_both)
    assert "1 were rotated" in rotate_all("--older-than=0")
    assert VirtualKey.objects.filter(lifecycle="retiring").count() == 2


def test_R10_undo_gives_the_old_key_back_and_takes_the_new_one_away(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    standin.spend(key, 0.4)
    new = rotate(key)
    standin.spend(new, 0.5)
    rotation.undo_rotation(key=new, cause=CAUSE)
    sync()
    assert set(standin.keys) == {key.key_hash}
    assert credential_for(user.pk).key_id == key.pk
    # 40 cents on the old key and 10 on the new one are spent.
    assert may_still_spend(standin, key) == pytest.approx(0.5, abs=1e-5)
    with pytest.raises(NothingToUndo):
        rotation.undo_rotation(key=key, cause=CAUSE)


def test_R11_the_successor_of_a_blocked_key_is_blocked(standin: StandIn, key: VirtualKey) -> None:
    services.block_key(key=key, reason="abuse", cause=CAUSE)
    sync()
    new = rotate(key)
    assert standin.key(new).blocked
    assert standin.key(key).blocked


def test_R11_the_key_of_a_suspended_user_stays_blocked(
    standin: StandIn, key: VirtualKey, user: User
) -> None:
    user.suspended_at = timezone.now()
    user.save()
    new = rotate(key)
    assert standin.key(new).blocked


def test_keys_of_an_age_are_rotated_by_themselves(
    standin: StandIn, key: VirtualKey, settings: object
) -> None:
    settings.KEY_MAX_AGE_DAYS = 30  # type: ignore[attr-defined]
    assert upkeep.rotate_aged() == 0
    VirtualKey.objects.update(created_at=F("created_at") - timedelta(days=31))
    assert upkeep.rotate_aged() == 1
    assert upkeep.rotate_aged() == 0


def test_several_keys_share_one_budget_where_the_plan_allows_them(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    free.max_keys = 3
    free.save()
    standin.spend(key, 0.4)
    second = services.create_key(user=user, label="ci", cause=Cause.user(user.pk))
    sync()
    assert may_still_spend(standin, key, second) == pytest.approx(0.6, abs=1e-5)
    third = services.create_key(user=user, label="laptop", cause=Cause.user(user.pk))
    sync()
    assert may_still_spend(standin, key, second, third) == pytest.approx(0.6, abs=1e-5)
    assert all(cap > 0.1 for cap in caps(standin, key, second, third))


PARTS = st.lists(
    st.tuples(st.decimals(0, 100, places=4), st.sampled_from([1, 4])), min_size=1, max_size=5
)


@given(st.decimals(0, 200, places=2), PARTS, st.decimals(0, 50, places=4))
def test_R02_parts_never_allow_more_than_the_budget(
    budget: Decimal, parts: list[tuple[Decimal, int]], gone: Decimal
) -> None:
    rows = [budgets.Part(i, spent, weight) for i, (spent, weight) in enumerate(parts)]
    shares = budgets.split(budget, rows, spent_elsewhere=gone)
    spent = sum((row.spent for row in rows), gone)
    most = sum(shares.values(), gone)
    assert most <= max(budget, spent)
    assert most >= max(budget, spent) - Decimal("0.00001")
    assert all(shares[row.key_id] >= row.spent for row in rows)


def rotate_all(*arguments: str) -> str:
    out = StringIO()
    mode = [] if "--dry-run" in arguments else ["--apply"]
    call_command("rotate_keys", *arguments, *mode, rate=1000, stdout=out)
    return out.getvalue()

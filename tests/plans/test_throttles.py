"""Limits lowered to a share for a while: a fact of the entitlement like any other."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, User
from plans import throttles
from plans.decision import Facts, ThrottleFacts, decide
from plans.entitlements import entitlement_for, refresh_due
from plans.models import CurrentEntitlement, Plan, Throttle
from tesslate.lib.cause import Cause

pytestmark = pytest.mark.django_db
CAUSE = Cause.system("test")
NOW = timezone.now()
DAY = timedelta(days=1)


def lower(user: User, *, percent: int = 10, for_: timedelta = DAY) -> Throttle | None:
    return throttles.throttle(
        user_id=user.pk, percent=percent, reason="odd", ends_at=timezone.now() + for_, cause=CAUSE
    )


def share(user: User) -> int:
    return CurrentEntitlement.objects.get(user=user).limit_percent


def test_it_lowers_the_share_and_says_why(user: User, free_plan: Plan):
    row = lower(user)

    entitlement = entitlement_for(user, timezone.now())
    assert row is not None
    assert (entitlement.limit_percent, share(user)) == (10, 10)
    assert entitlement.plan == free_plan
    [reason] = [r for r in entitlement.reasons if r.code == "throttled"]
    assert (reason.source_id, reason.until) == (row.pk, row.ends_at)


def test_it_ends_by_itself(user: User, free_plan: Plan):
    lower(user)

    refresh_due(at=timezone.now() + DAY + timedelta(seconds=1))

    assert share(user) == 100


def test_the_smallest_share_counts(free_plan: Plan):
    two = (ThrottleFacts(1, 30, NOW + DAY), ThrottleFacts(2, 20, NOW + 2 * DAY))
    facts = Facts(default_plan=free_plan, joined_at=NOW - DAY, throttles=two)

    assert decide(facts, NOW).limit_percent == 20
    assert decide(facts, NOW).changes_at == NOW + DAY
    assert decide(facts, NOW + DAY).limit_percent == 20
    assert decide(facts, NOW + 2 * DAY).limit_percent == 100


def test_one_at_a_time(user: User, free_plan: Plan):
    lower(user)

    assert lower(user, percent=50) is None
    assert share(user) == 10


def test_one_that_is_over_makes_room(user: User, free_plan: Plan):
    first = lower(user)
    Throttle.objects.update(ends_at=timezone.now() - DAY)

    assert lower(user, percent=50) is not None
    assert share(user) == 50
    assert first is not None
    first.refresh_from_db()
    assert first.lifted_at is not None


def test_lifting_gives_everything_back_and_is_recorded(user: User, free_plan: Plan):
    row = lower(user)
    assert row is not None

    assert throttles.lift(throttle=row, cause=CAUSE)
    assert not throttles.lift(throttle=row, cause=CAUSE)

    assert share(user) == 100
    assert AuditEntry.objects.filter(user=user, action="throttle.lifted").count() == 1


def test_closed_accounts_are_left_alone(user: User, free_plan: Plan):
    user.deleted_at = timezone.now()
    user.save()

    assert lower(user) is None


def test_staff_see_it_and_lift_it(staff_client: Client, user: User, free_plan: Plan):
    row = lower(user)
    assert row is not None
    assert "Throttled: odd" in staff_client.get("/admin/").content.decode()
    assert "10 % of the limits" in staff_client.get(f"/admin/customers/{user.pk}").content.decode()

    staff_client.post("/admin/plans/throttle/", {"action": "lift", "_selected_action": [row.pk]})

    row.refresh_from_db()
    assert row.lifted_at is not None
    assert share(user) == 100

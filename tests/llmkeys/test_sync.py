"""The reconciler: whatever fails, the gateway ends up saying what the plan says."""

import pytest

from accounts.models import User
from llmkeys import gateway
from llmkeys.models import KeyEvent, VirtualKey
from plans.models import Plan
from tesslate.lib.crypto import decrypt
from tests.llmkeys.conftest import entitle, only_key, sync
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db


def test_S01_a_new_user_gets_a_key_that_works(standin: StandIn, user: User, free: Plan) -> None:
    entitle(user, free)
    assert sync() == 1

    key = only_key(user)
    assert key.is_in_step
    assert gateway.client().probe(decrypt(key.secret)).models == {"small"}
    row = standin.key(key)
    assert row.models == ["all-team-models"]
    assert row.max_budget == 1
    assert row.metadata is not None
    assert row.metadata["user"] == user.pk
    assert standin.teams[str(row.team_id)].models == ["small"]
    assert standin.budgets[str(row.budget_id)].rpm_limit == 20
    assert len(standin.writes("/key/")) == 1


def test_S14_a_resync_without_change_makes_no_write(
    standin: StandIn, key: VirtualKey, user: User, free: Plan
) -> None:
    entitle(user, free)
    sync()
    key.refresh_from_db()
    assert key.is_in_step
    assert standin.writes() == []


def test_a_plan_change_moves_the_same_key(
    standin: StandIn, key: VirtualKey, user: User, pro: Plan
) -> None:
    entitle(user, pro)
    sync()
    assert only_key(user).pk == key.pk
    assert len(standin.writes("/key/")) == 1
    assert standin.key(key).max_budget == 50
    assert KeyEvent.objects.filter(key=key, action="updated").exists()

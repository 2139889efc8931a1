"""What the doctor makes of the last audit of keys."""

import pytest
from django.utils import timezone

from llmkeys.audit import Kind
from llmkeys.models import AuditRun
from tesslate import doctor

pytestmark = pytest.mark.django_db


def finding(**counts: int) -> str:
    kinds = {Kind[name.upper()].value: count for name, count in counts.items()}
    AuditRun.objects.create(state="finished", finished_at=timezone.now(), counts=kinds)
    return doctor._drift()[0]


def test_keys_in_step_and_at_work_and_those_staff_vouch_for_are_no_drift() -> None:
    assert finding(in_step=7, moving=1, trusted=2) == doctor.OK


def test_foreign_keys_are_a_question_with_the_commands_that_settle_it() -> None:
    assert finding(in_step=7, foreign=3) == doctor.WARNING
    _, told, remedy = doctor._drift()
    assert told.startswith("3 foreign")
    assert "remove_foreign_keys" in remedy
    assert "--repair" not in remedy


@pytest.mark.parametrize("kind", ["drifted", "missing", "unwanted", "duplicate", "orphan"])
def test_anything_else_is(kind: str) -> None:
    assert finding(in_step=7, **{kind: 1}) == doctor.WARNING

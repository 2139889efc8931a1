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


def test_keys_in_step_and_at_work_and_foreign_ones_are_no_drift() -> None:
    assert finding(in_step=7, moving=1, foreign=2) == doctor.OK


@pytest.mark.parametrize("kind", ["drifted", "missing", "unwanted", "duplicate", "orphan"])
def test_anything_else_is(kind: str) -> None:
    assert finding(in_step=7, **{kind: 1}) == doctor.WARNING

"""Some fifty random lives (LIVES times four); `make soak ONLY=billing` runs many more."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.plans.lives import Lives

HISTORIES = int(os.environ.get("LIVES", "12"))


@pytest.mark.django_db
@pytest.mark.parametrize("part", range(4))
def test_O11_random_lives_end_where_stripe_says(part: int) -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )

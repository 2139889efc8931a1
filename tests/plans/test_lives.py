"""Eight random lives, or EFFORT times as many; `make soak ONLY=billing` runs many more."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.effort import EFFORT
from tests.plans.lives import Lives


@pytest.mark.django_db
@pytest.mark.parametrize("part", range(4))
def test_O11_random_lives_end_where_stripe_says(part: int) -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=2 * EFFORT,
            stateful_step_count=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )

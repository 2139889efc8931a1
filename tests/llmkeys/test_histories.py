"""Half a dozen random histories, or EFFORT times as many; `make soak ONLY=keys` runs many more."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.effort import EFFORT
from tests.llmkeys.histories import Histories


@pytest.mark.django_db
@pytest.mark.parametrize("part", range(3))
def test_S19_random_histories_end_as_they_should(part: int) -> None:
    run_state_machine_as_test(
        type("Part", (Histories,), {}),
        settings=settings(
            max_examples=2 * EFFORT,
            stateful_step_count=18,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )

"""Wait for rows that were put behind to be in step, whoever brings them there."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from llmkeys import reconcile, shared_objects
from llmkeys.models import PlanAtGateway, Reconciled, VirtualKey

# Longer than a lease, after which the work of a worker that died goes on.
PATIENCE_SECONDS = 120
# Between two looks, while there is work, and while there is none for us.
WORK_SECONDS = 2.0
PAUSE_SECONDS = 0.5

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Awaited:
    """Rows of one kind: how many there were, and by id the generation at which each of the rest
    will have been in step. Rows that are gone need nothing any more."""

    model: type[Reconciled]
    total: int = 0
    parked: int = 0
    rest: dict[int, int] = field(default_factory=dict)

    @property
    def in_step(self) -> int:
        return self.total - len(self.rest)

    def begin(self, ids: Collection[int]) -> None:
        rows = self.model._default_manager.filter(pk__in=ids)
        self.rest = dict(rows.values_list("pk", "generation"))
        self.total = len(self.rest)

    def look(self) -> None:
        rows = self.model._default_manager.filter(pk__in=self.rest)
        found = {
            pk: parked_at
            for pk, reached, parked_at in rows.values_list("pk", "observed_generation", "parked_at")
            if reached < self.rest[pk]
        }
        self.rest = {pk: self.rest[pk] for pk in found}
        self.parked = sum(parked_at is not None for parked_at in found.values())


@dataclass(frozen=True, slots=True)
class Waited:
    keys: Awaited
    plans: Awaited

    @property
    def in_step(self) -> int:
        return self.keys.in_step + self.plans.in_step

    @property
    def total(self) -> int:
        return self.keys.total + self.plans.total

    @property
    def parked(self) -> int:
        return self.keys.parked + self.plans.parked

    @property
    def problem(self) -> str:
        """What is to be said of those that are not in step; empty for none."""
        if self.in_step == self.total:
            return ""
        parked = f", {self.parked} of them parked" if self.parked else ""
        return (
            f"{self.total - self.in_step} not in step{parked}. Workers go on with what is not "
            "parked; the admin (Virtual keys, Plans at the gateway) shows each error."
        )


def until_in_step(
    *,
    keys: Collection[int] = (),
    plans: Collection[int] = (),
    patience: float = PATIENCE_SECONDS,
    progress: Progress | None = None,
) -> Waited:
    """Work beside the workers until these have all been in step since now or are parked, or until
    none has come into step for ``patience`` seconds."""
    waited = Waited(Awaited(VirtualKey), Awaited(PlanAtGateway))
    waited.keys.begin(keys)
    waited.plans.begin(plans)
    reached, moved_at = 0, time.monotonic()
    while True:
        worked = shared_objects.sync_plans() + reconcile.drain(seconds=WORK_SECONDS)
        waited.keys.look()
        waited.plans.look()
        if waited.in_step > reached:
            reached, moved_at = waited.in_step, time.monotonic()
            if progress is not None:
                progress(reached, waited.total)
        if reached + waited.parked >= waited.total or time.monotonic() - moved_at >= patience:
            return waited
        if not worked:
            time.sleep(PAUSE_SECONDS)

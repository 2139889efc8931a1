"""Bring keys at the gateway into step with what they should be.

Level-triggered: the rows say what is behind, and any number of workers, wake-ups and repeats end in
the same place. One turn is: claim rows, read everything they depend on, act (in threads, without
the database), write down what came of it. A worker may die between any two of these.
"""

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from decimal import Decimal

from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from llmkeys import breaker, budgets, desired, gateway, recording, shared_objects
from llmkeys.acting import KeyResult, KeyWork, Postponed, bring_in_step, summary
from llmkeys.breaker import BatchBreaker, GatewayDown
from llmkeys.leases import Claim, claim, release
from llmkeys.litellm_client import LiteLLMClient
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import VirtualKey
from llmkeys.models.reconciled import BEHIND
from tesslate.lib.crypto import decrypt

logger = logging.getLogger(__name__)

BATCH = 64
# Results written in one go: few enough to be seen soon, enough to make it cheap.
RECORDED_TOGETHER = 32
# Keys taken along with those that a wake-up names.
COMPANY = 16
# A key that keeps changing while we work on it is left to the sweep after so many turns.
TURNS = 5


def sync_keys(key_ids: Collection[int]) -> int:
    """Bring these keys into step, as far as they are behind, due and free, and with them a few
    that fell behind after them; how many were done.

    Those others have wake-ups in the queue behind this one. A key costs a fraction in company of
    what it costs alone, so a queue that has grown gets shorter again.
    """
    done = 0
    ids = [*key_ids, *_company(key_ids)]
    for _ in range(TURNS):
        turn = _turn(ids=ids, limit=len(ids))
        done += turn.claimed
        if not turn.changed_meanwhile:
            break
    return done


def _company(key_ids: Collection[int]) -> list[int]:
    behind = VirtualKey.objects.filter(BEHIND)
    first = behind.filter(pk__in=key_ids).aggregate(at=Min("next_attempt_at"))["at"]
    if first is None:
        return []
    later = behind.filter(next_attempt_at__gte=first, next_attempt_at__lte=timezone.now())
    others = later.exclude(pk__in=key_ids).order_by("next_attempt_at")
    return list(others.values_list("pk", flat=True)[:COMPANY])


def drain(*, seconds: float = 50) -> int:
    """Bring whatever is behind into step, oldest first, for at most so long."""
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end:
        turn = sync_batch(limit=BATCH)
        if turn == 0:
            break
        done += turn
    return done


def sync_batch(*, ids: Collection[int] | None = None, limit: int = BATCH) -> int:
    """One turn with up to ``limit`` keys. Returns how many were claimed; 0 when there is nothing
    to do, or when the gateway is known to be down."""
    return _turn(ids=ids, limit=limit).claimed


@dataclass(frozen=True, slots=True)
class Turn:
    """How many keys it took, and whether any of them changed again while it was at work. Such a
    change's own wake-up may have come in vain, as the key was taken."""

    claimed: int = 0
    changed_meanwhile: bool = False


def _turn(*, ids: Collection[int] | None, limit: int) -> Turn:
    if breaker.is_open():
        return Turn()
    claimed = claim(VirtualKey, limit=limit, ids=ids)
    if not claimed.ids:
        return Turn()
    client = gateway.client()
    circuit = BatchBreaker(client)
    try:
        groups, postponed = prepare(client, claimed)
    except LiteLLMError as error:
        release(VirtualKey, claimed, claimed.ids)
        breaker.open_for(error)
        return Turn()
    recording.record_postponed(claimed, postponed)
    done = act(client, circuit, claimed, groups)
    if done.untouched:
        release(VirtualKey, claimed, done.untouched)
    if circuit.trip is not None:
        breaker.open_for(circuit.trip)
        return Turn()
    return Turn(len(claimed.ids), done.changed_meanwhile)


@dataclass(slots=True)
class Done:
    """The keys left untouched because the gateway went down, and whether others changed again."""

    untouched: list[int] = field(default_factory=list)
    changed_meanwhile: bool = False


def act(
    client: LiteLLMClient,
    circuit: BatchBreaker,
    claimed: Claim,
    groups: Sequence[Sequence[KeyWork]],
) -> Done:
    """Work through the groups side by side and record results as they come in."""
    done = Done()
    if len(groups) == 1:
        _keep(claimed, _act_on_group(client, circuit, groups[0]), done)
        return done
    with ThreadPoolExecutor(min(settings.LITELLM_CONCURRENCY, max(1, len(groups)))) as threads:
        pending = [threads.submit(_act_on_group, client, circuit, group) for group in groups]
        ready: list[KeyResult] = []
        for future in as_completed(pending):
            ready += future.result()
            if len(ready) >= RECORDED_TOGETHER:
                _keep(claimed, ready, done)
                ready = []
        _keep(claimed, ready, done)
    return done


def _act_on_group(
    client: LiteLLMClient, circuit: BatchBreaker, works: Sequence[KeyWork]
) -> list[KeyResult]:
    """One user's keys, in order: what is lowered before what is raised.

    Nothing is raised while the lowering failed, or came after more had been spent than it allows:
    then what is left for the others is to be worked out anew.
    """
    results: list[KeyResult] = []
    held = False
    for work in works:
        try:
            circuit.guard()
        except GatewayDown:
            results.append(KeyResult(work, error=_UNTOUCHED))
            continue
        if held and budgets.raises_budget(work.desired, work.observed):
            results.append(KeyResult(work, work.observed, error=_AFTER_SIBLING))
            continue
        result = bring_in_step(client, work)
        circuit.note(result.error)
        held = held or result.error is not None or budgets.outspends(work.desired, result.spend)
        results.append(result)
    return results


_UNTOUCHED = Postponed("the gateway is down", 0)
_AFTER_SIBLING = Postponed("another key of this user has to go first", 1)


def _keep(claimed: Claim, results: Iterable[KeyResult], done: Done) -> None:
    worked = []
    for result in results:
        if result.error is _UNTOUCHED:
            done.untouched.append(result.work.key_id)
        else:
            worked.append(result)
            logger.debug("Synced a key", extra=summary(result))
    done.changed_meanwhile |= recording.record(claimed, worked)


# Preparation


def prepare(
    client: LiteLLMClient, claimed: Claim
) -> tuple[list[list[KeyWork]], dict[int, Postponed]]:
    """Snapshots of the claimed keys, grouped by user, and the keys that have to wait.

    Sees to it first that the plans' shared objects are there. Raises LiteLLMError when they cannot
    be made because the gateway as a whole does not work.
    """
    deadline = time.monotonic() + (claimed.until - timezone.now()).total_seconds()
    deadline -= 2 * settings.LITELLM_TIMEOUT_SECONDS
    keys = desired.keys_with_facts(claimed.ids)
    plans = desired.plans_of(keys)
    missing = shared_objects.ensure(client, plans.values())
    keys, waiting_for_siblings = budgets.settle(client, keys, in_doubt=claimed.in_doubt)
    switches = desired.switches_in_force(user_ids=[key.user_id for key in keys])
    models = {
        plan.pk: frozenset(desired.usable_models(plan, switches))
        for plan in shared_objects.with_models(plans)
    }
    models_at_gateway = shared_objects.models_by_gateway_id()
    groups: dict[int, list[KeyWork]] = {}
    postponed: dict[int, Postponed] = {}
    for key in keys:
        entitlement = desired.entitlement_of(key)
        if entitlement is not None and entitlement.plan_id in missing:
            postponed[key.pk] = Postponed("the plan is not at the gateway yet")
            continue
        if key.pk in waiting_for_siblings:
            postponed[key.pk] = Postponed("another key of this user has to go first", 0.3)
            continue
        try:
            wanted = desired.desired_key(key, switches)
        except desired.NoEntitlement as problem:
            postponed[key.pk] = Postponed(str(problem), 60)
            continue
        groups.setdefault(key.user_id, []).append(
            KeyWork(
                key_id=key.pk,
                key_hash=key.key_hash,
                generation=key.generation,
                desired=wanted,
                observed=key.observed,
                in_doubt=key.pk in claimed.in_doubt,
                starting_spend=starting_spend(key),
                models=models[entitlement.plan_id] if entitlement else frozenset(),
                models_before=models_at_gateway.get(key.observed_value.get("team_id", "")),
                secret=_Secret(key.secret),
                deadline=deadline,
                probes=settings.LITELLM_PROBE_REPEATS,
            )
        )
    for works in groups.values():
        works.sort(key=lambda work: budgets.raises_budget(work.desired, work.observed))
    return list(groups.values()), postponed


class _Secret:
    """A key's value, opened only when it must be sent, and never shown by accident."""

    __slots__ = ("_ciphertext",)

    def __init__(self, ciphertext: str) -> None:
        self._ciphertext = ciphertext

    def __call__(self) -> str:
        return decrypt(self._ciphertext) if self._ciphertext else ""

    def __repr__(self) -> str:
        return "<secret>"


def starting_spend(key: VirtualKey) -> Decimal:
    """The spend that a key starts from when it is made: what it took over, or, when the gateway
    has lost it, what we last saw of it. Nothing once a new window has begun."""
    entitlement = desired.entitlement_of(key)
    if entitlement is None or not key.window:
        return key.carried_spend
    if str(desired.window_of(key, entitlement)) != key.window:
        return Decimal(0)
    return max(key.carried_spend, key.spend)

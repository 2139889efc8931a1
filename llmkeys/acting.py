"""Make the gateway hold what one key should be. Talks to the gateway and to nothing else: these
functions run in threads, on snapshots, and the caller writes down what they report."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llmkeys.litellm_client import Json, LiteLLMClient, Probe
from llmkeys.litellm_errors import LiteLLMError, LiteLLMRejected, LiteLLMUnavailable
from llmkeys.spec import (
    State,
    Window,
    changes_needed,
    creation,
    differences,
    further_window,
    observe_key,
    spend_of,
    starts_window,
    takes_access_away,
)


@dataclass(frozen=True, slots=True)
class KeyWork:
    """A key as a worker found it, with everything needed to bring the gateway into step."""

    key_id: int
    key_hash: str
    generation: int
    # None: the gateway should hold nothing.
    desired: State | None
    # What it held when last seen; None: nothing, as far as we know.
    observed: State | None
    # Somebody may have written since: read first.
    in_doubt: bool
    # What a newly made key starts from: spend that already counts in its window.
    starting_spend: Decimal
    # Models that the key may call in the end, for probes, and those of the plan that it leaves
    # where we know them.
    models: frozenset[str]
    models_before: frozenset[str] | None
    # Opens the stored value; called only when the value must be sent.
    secret: Callable[[], str]
    # time.monotonic() after which another worker may hold the key.
    deadline: float
    probes: int = 2


@dataclass(slots=True)
class Note:
    """One line for the key's trail."""

    action: str
    outcome: str = "done"
    sent: State | None = None
    received: State | None = None
    message: str = ""


@dataclass(slots=True)
class KeyResult:
    """How it went. ``error`` None means that the gateway now holds what was desired."""

    work: KeyWork
    observed: State | None = None
    spend: Decimal | None = None
    row: Json | None = None
    notes: list[Note] = field(default_factory=list)
    error: LiteLLMError | None = None
    # A write may have had an effect that we did not see.
    in_doubt: bool = False
    # What probes must find, when access was taken away; None otherwise.
    probe_for: State | None = None
    obeyed: bool = False
    # The alias belongs to somebody else's key: take another and try again.
    alias_taken: bool = False
    # The plan's shared objects are not there.
    plan_missing: bool = False


class Postponed(LiteLLMError):
    """The key cannot be worked on yet: nothing was sent, and nothing failed."""

    def __init__(self, why: str, seconds: float = 1.0) -> None:
        super().__init__(why)
        self.seconds = seconds


class FurtherOn(Postponed):
    """The key is in a later window than was written down: a worker began it and died. To begin an
    earlier one would hand out that one's budget again."""

    def __init__(self, window: Window) -> None:
        super().__init__("its window is further on than was written down", 0)
        self.window = window


class OutOfTime(LiteLLMUnavailable):
    """The lease is about to end: whatever is left is for the next worker."""


def bring_in_step(client: LiteLLMClient, work: KeyWork) -> KeyResult:
    """Read where in doubt, send only what differs, probe where access was taken away."""
    result = KeyResult(work, observed=work.observed)
    try:
        _act(client, work, result)
    except Postponed as postponed:
        result.error = postponed
    except LiteLLMError as error:
        result.error = error
        result.in_doubt = result.in_doubt or getattr(error, "outcome_unknown", False)
        refused = isinstance(error, LiteLLMRejected)
        outcome = "refused" if refused else "unknown"
        result.notes.append(Note("failed", outcome, message=str(error)[:500]))
        if isinstance(error, LiteLLMRejected):
            result.plan_missing = error.names_unknown_budget or error.names_unknown_team
    return result


def _act(client: LiteLLMClient, work: KeyWork, result: KeyResult) -> None:
    if work.in_doubt:
        _check_time(work)
        _see(result, client.get_key(work.key_hash))
        if work.desired is not None and result.observed is not None:
            window = further_window(work.desired, result.observed)
            if window is not None:
                raise FurtherOn(window)
    # After a lost answer the gateway may already show what the lost call did; the last state that
    # was certain tells whether access was taken away.
    before = [state for state in (work.observed, result.observed) if state is not None]
    if work.desired is None:
        _remove(client, work, result)
    elif result.observed is None:
        _create(client, work, result)
    else:
        _update(client, work, result)
    loses = work.models_before is None or not work.models_before <= work.models
    if any(takes_access_away(work.desired, state, loses_models=loses) for state in before):
        _prove(client, work, result)


def _remove(client: LiteLLMClient, work: KeyWork, result: KeyResult) -> None:
    if result.observed is None and not work.in_doubt:
        return
    if result.row is None:
        # What it spent in the end counts against the keys that stay.
        _check_time(work)
        if work.in_doubt:
            _remember(result, client.get_deleted_key(work.key_hash))
        else:
            _see(result, client.get_key(work.key_hash))
    if result.observed is not None and _is_of_use(result.observed):
        # LiteLLM tells its other processes of a block at once, but not of a deletion: they would
        # let the key in until their caches expire. And it keeps deleted keys in an archive, in
        # which nobody's address has any business.
        _check_time(work)
        _defuse(client, work, result.observed)
    _check_time(work)
    client.delete_key(work.key_hash)
    result.observed = None
    result.notes.append(Note("deleted"))


def _remember(result: KeyResult, archived: Json | None) -> None:
    """It is gone already: an earlier worker's doing, which that worker did not live to write down,
    nor what the key had spent."""
    result.row = archived
    if archived is not None:
        result.spend = max(spend_of(archived), result.work.starting_spend)


def _is_of_use(observed: State) -> bool:
    return not observed["blocked"] or "email" in observed["metadata"]


def _defuse(client: LiteLLMClient, work: KeyWork, observed: State) -> None:
    metadata = {name: told for name, told in observed["metadata"].items() if name != "email"}
    try:
        client.update_key(work.key_hash, {"blocked": True, "metadata": metadata})
    except LiteLLMRejected as refusal:
        if not refusal.is_missing:
            raise


def _create(client: LiteLLMClient, work: KeyWork, result: KeyResult) -> None:
    assert work.desired is not None
    fields = creation(work.desired, spend=work.starting_spend)
    _check_time(work)
    try:
        row = client.create_key(work.secret(), fields)
    except LiteLLMRejected as refusal:
        if not refusal.is_taken_alias:
            raise
        _after_taken_alias(client, work, result)
        return
    except LiteLLMUnavailable:
        # Whatever the failure: a new key must never be made a second time without looking.
        result.in_doubt = True
        raise
    _check_answer(work, row)
    result.notes.append(Note("created", sent=work.desired))
    _see(result, row)
    # The answer repeats the request, except for what was left to defaults.
    _update(client, work, result)


def _after_taken_alias(client: LiteLLMClient, work: KeyWork, result: KeyResult) -> None:
    """The alias is in use: by this very key after a lost answer, or by another one."""
    row = client.get_key(work.key_hash)
    if row is None:
        result.alias_taken = True
        raise LiteLLMUnavailable("the alias belongs to another key at the gateway")
    _see(result, row)
    result.notes.append(Note("found", received=result.observed))
    _update(client, work, result)


def _update(client: LiteLLMClient, work: KeyWork, result: KeyResult) -> None:
    assert work.desired is not None
    assert result.observed is not None
    patch = changes_needed(work.desired, result.observed)
    if not patch:
        return
    before = {
        name: result.observed.get(name) for name in differences(work.desired, result.observed)
    }
    renewed = starts_window(work.desired, result.observed)
    _check_time(work)
    try:
        if "user_id" in patch and "team_id" in patch:
            # A key of somebody who is no member of the new team cannot move there.
            client.update_key(work.key_hash, {"user_id": patch.pop("user_id")})
        row = client.update_key(work.key_hash, patch)
    except LiteLLMRejected as refusal:
        if not refusal.is_missing:
            # Perhaps because the key is not as we believe: look at it before the next attempt.
            result.in_doubt = result.row is None
            raise
        if any(note.action == "missing" for note in result.notes):
            raise LiteLLMUnavailable("the gateway contradicts itself about this key") from refusal
        result.notes.append(Note("missing", "noted"))
        result.observed = None
        _create(client, work, result)
        return
    _check_answer(work, row)
    _see(result, row)
    left = differences(work.desired, result.observed)
    if left:
        raise LiteLLMUnavailable(f"the gateway did not take over: {', '.join(left)}")
    action = "window started" if renewed else "updated"
    result.notes.append(Note(action, sent=_readable(patch), received=before))


def _see(result: KeyResult, row: Json | None) -> None:
    result.row = row
    result.observed = None if row is None else observe_key(row)
    if row is not None:
        result.spend = spend_of(row)


def _check_answer(work: KeyWork, row: Json) -> None:
    """Nonsense is a failure: an answer has to be about the key that was named."""
    if row.get("token", row.get("token_id")) != work.key_hash or "models" not in row:
        raise LiteLLMUnavailable("the gateway answered with another key", outcome_unknown=True)


def _check_time(work: KeyWork) -> None:
    if time.monotonic() > work.deadline:
        raise OutOfTime("no time left in this turn")


def _readable(patch: State) -> State:
    return {k: str(v) if isinstance(v, Decimal) else v for k, v in patch.items()}


# Probes


def expectation(desired: State | None, models: frozenset[str]) -> State:
    """What a probe must find: nothing at all, or no model beyond these."""
    if desired is None or desired["blocked"]:
        return {"refused": True}
    return {"within": sorted(models)}


def meets(probe: Probe, wanted: State) -> bool:
    if wanted.get("refused"):
        return probe.is_refused
    return probe.models <= set(wanted["within"])


def obeys(client: LiteLLMClient, secret: str, wanted: State, times: int) -> bool:
    """Whether every one of several probes finds what is wanted. Raises LiteLLMUnavailable."""
    return all(meets(client.probe(secret), wanted) for _ in range(times))


def _prove(client: LiteLLMClient, work: KeyWork, result: KeyResult) -> None:
    """Probe at once. A probe that cannot be made proves nothing; it will be made again."""
    secret = work.secret()
    if not secret:
        # Erased when the gateway had forgotten the key; nobody can try it any more.
        return
    result.probe_for = expectation(work.desired, work.models)
    try:
        _check_time(work)
        result.obeyed = obeys(client, secret, result.probe_for, work.probes)
    except LiteLLMUnavailable:
        result.obeyed = False


def summary(result: KeyResult) -> dict[str, Any]:
    """What a log line may say about it."""
    return {
        "key": result.work.key_id,
        "did": ", ".join(note.action for note in result.notes) or "nothing",
        "error": str(result.error or ""),
    }

"""Write down what came of a worker's turn. Only the holder of the lease may: what a worker reports
after its lease has passed to another is dropped, and the key is looked at once more."""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from llmkeys.acting import FurtherOn, KeyResult, Note, Postponed, expectation
from llmkeys.bulk import update_each
from llmkeys.leases import LONGEST_WAIT, Claim
from llmkeys.litellm_errors import LiteLLMRejected, LiteLLMUnavailable
from llmkeys.marking import behind, mark_keys
from llmkeys.metrics import ACCESS_LAG, SYNC_LAG, SYNCS
from llmkeys.models import KeyEvent, PlanAtGateway, VirtualKey
from llmkeys.spec import PERSONAL, State, Window, last_used, observe_key, window_in
from plans.models import StripeEvent
from tesslate.lib import changes
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 1.0
# Attempts after which a key is parked: a refusal is not going to change by itself.
PARK_REFUSED = 5
PARK_UNAVAILABLE = 12
# Between probes while the gateway does not obey yet, and when to raise the alarm.
PROBE_EVERY = timedelta(seconds=1)
OBEY_WITHIN = timedelta(seconds=90)
# An event that arrived longer ago was replayed.
OLD = timedelta(days=3)


_LEASE_OVER: dict[str, Any] = {"lease_token": "", "lease_until": None}


def backoff(attempts: int, *, retry_after: float | None = None) -> float:
    """Seconds to wait after so many attempts, with jitter so that keys do not move in step."""
    longest = LONGEST_WAIT.total_seconds()
    wait = min(longest, FIRST_WAIT_SECONDS * 2.0 ** min(attempts - 1, 20))
    wait *= 0.5 + random.random() / 2  # noqa: S311 - spreads load, protects nothing
    return max(wait, min(retry_after or 0.0, longest))


def record(claim: Claim, results: Iterable[KeyResult]) -> bool:
    """Store the results in one transaction and leave the trail. Whether any of the keys changed
    again meanwhile."""
    results = list(results)
    if not results:
        return False
    now = timezone.now()
    with transaction.atomic():
        # The order in which everybody locks keys.
        rows = {
            row.pk: row
            for row in VirtualKey.objects.filter(
                pk__in=[result.work.key_id for result in results], lease_token=claim.token
            )
            .defer("desired", "observed")
            .order_by("pk")
            .select_for_update(no_key=True)
        }
        changes_by_key: dict[int, dict[str, Any]] = {}
        events: list[KeyEvent] = []
        touched = {result.work.key_id for result in results if result.notes}
        for result in results:
            row = rows.get(result.work.key_id)
            if row is None:
                continue
            changes_by_key[row.pk] = _LEASE_OVER | _changes(row, result, now)
            events += [_event(row, note, result.work.generation) for note in result.notes]
            if result.obeyed:
                events.append(_event(row, Note("enforced"), result.work.generation))
        update_each(VirtualKey, changes_by_key, lease_token=claim.token)
        KeyEvent.objects.bulk_create(events)
        changes.publish({row.user_id for row in rows.values() if row.pk in touched})
        _follow_up(results, rows)
    _count(results, rows, now)
    return any(
        rows[result.work.key_id].generation != result.work.generation
        for result in results
        if result.work.key_id in rows
    )


def _count(results: Iterable[KeyResult], rows: Mapping[int, VirtualKey], now: datetime) -> None:
    caused_by: list[str] = []
    for result in results:
        row = rows.get(result.work.key_id)
        if row is None or isinstance(result.error, Postponed):
            continue
        SYNCS.labels("done" if result.error is None else type(result.error).__name__).inc()
        if result.error is not None:
            logger.warning(
                "A key could not be synced: %s",
                result.error,
                extra={"key_id": row.pk, "user_id": row.user_id, "cause": str(row.cause)},
            )
        if result.error is None and row.dirty_since is not None:
            SYNC_LAG.observe((now - row.dirty_since).total_seconds())
            caused_by.append(row.cause_reference if row.cause_kind == "stripe" else "")
    _count_access_lag(Counter(filter(None, caused_by)), now)


def _count_access_lag(keys_by_event: Mapping[str, int], now: datetime) -> None:
    """How long customers waited for what they paid; what staff replayed much later is no wait."""
    if not keys_by_event:
        return
    arrived = StripeEvent.objects.filter(
        event_id__in=keys_by_event.keys(), received_at__gt=now - OLD
    )
    for event_id, received_at in arrived.values_list("event_id", "received_at"):
        for _ in range(keys_by_event[event_id]):
            ACCESS_LAG.observe((now - received_at).total_seconds())


def record_postponed(claim: Claim, postponed: Mapping[int, Postponed]) -> None:
    """Give back keys that could not be worked on yet; that is no failure."""
    now = timezone.now()
    for key_id, reason in postponed.items():
        VirtualKey.objects.filter(pk=key_id, lease_token=claim.token).update(
            lease_token="",
            lease_until=None,
            attempts=F("attempts") - 1,
            next_attempt_at=now + timedelta(seconds=reason.seconds),
            last_error=str(reason)[:500],
        )


def _changes(row: VirtualKey, result: KeyResult, now: datetime) -> dict[str, Any]:
    seen: dict[str, Any] = {"observed": result.observed}
    if result.spend is not None:
        seen |= {"spend": result.spend, "spend_seen_at": now}
    used = last_used(result.row) if result.row else None
    if used is not None:
        seen["last_used_at"] = used
    if isinstance(result.error, FurtherOn):
        return seen | _further_on(row, result.error.window) | _waiting(result.error, now)
    if isinstance(result.error, Postponed):
        return _waiting(result.error, now)
    if result.error is not None:
        return seen | _failure(row, result, now)
    return seen | _success(row, result, now) | _probing(row, result, now)


def _waiting(reason: Postponed, now: datetime) -> dict[str, Any]:
    return {
        "attempts": F("attempts") - 1,
        "next_attempt_at": now + timedelta(seconds=reason.seconds),
        "last_error": str(reason)[:500],
    }


def _further_on(row: VirtualKey, window: Window) -> dict[str, Any]:
    return _entered(row, window) | {"spend_resets": max(row.spend_resets, window.resets)}


def _success(row: VirtualKey, result: KeyResult, now: datetime) -> dict[str, Any]:
    work = result.work
    changed_meanwhile = row.generation != work.generation
    stored: dict[str, Any] = {
        "desired": work.desired,
        "observed_generation": work.generation,
        # Whoever changed it meanwhile may have asked to have it read back.
        "in_doubt": changed_meanwhile,
        "attempts": 0,
        "last_error": "",
        "parked_at": None,
        "synced_at": now,
        "dirty_since": now if changed_meanwhile else None,
    }
    if work.desired is None:
        return (
            stored | _entered(row, _unforeseen(row, result)) | {"removed_at": row.removed_at or now}
        )
    return stored | _entered(row, window_in(work.desired)) | {"removed_at": None}


def _entered(row: VirtualKey, window: Window | None) -> dict[str, Any]:
    """What follows from the key's being in this window."""
    if window is None or str(window) == row.window:
        return {}
    entered: dict[str, Any] = {"window": str(window), "window_start": window.start}
    if row.window:
        entered["carried_spend"] = Decimal(0)
    return entered


def _unforeseen(row: VirtualKey, result: KeyResult) -> Window | None:
    """The window that a removed key turns out to have been in last, where that is later than what
    was written down of it: nobody lived to write down that it was made, or that it was renewed."""
    if result.row is None:
        return None
    seen, known = window_in(observe_key(result.row)), Window.named(row.window)
    return seen if seen is not None and (known is None or seen > known) else None


def _failure(row: VirtualKey, result: KeyResult, now: datetime) -> dict[str, Any]:
    error = result.error
    # What the plan lacks at the gateway comes back by itself.
    refused = isinstance(error, LiteLLMRejected) and not result.plan_missing
    retry_after = error.retry_after if isinstance(error, LiteLLMUnavailable) else None
    wait = backoff(row.attempts, retry_after=retry_after)
    unread = result.work.in_doubt and result.row is None and not refused
    stored: dict[str, Any] = {
        "in_doubt": result.in_doubt or unread or row.generation != result.work.generation,
        "last_error": str(error)[:500],
        "next_attempt_at": now + timedelta(seconds=wait),
    }
    if result.alias_taken:
        stem = row.alias.rsplit("~", 1)[0]
        stored["alias"] = f"{stem}~{random.randrange(16**8):08x}"  # noqa: S311 - a name
    if row.attempts >= (PARK_REFUSED if refused else PARK_UNAVAILABLE):
        stored["parked_at"] = now
    return stored


def _probing(row: VirtualKey, result: KeyResult, now: datetime) -> dict[str, Any]:
    """What is still to be proved after this turn."""
    wanted = result.probe_for
    work = result.work
    if wanted is None and row.probe_for is not None:
        # Something else changed while an earlier withdrawal is still being watched.
        still = expectation(work.desired, work.models)
        wanted = still if "within" in row.probe_for or still.get("refused") else None
        if wanted is None:
            return {"probe_for": None, "probe_at": None, "probe_since": None}
        return {"probe_for": wanted}
    if wanted is None:
        return _erase_if_gone(row, work.desired is None)
    if result.obeyed:
        return {
            "probe_for": None,
            "probe_at": None,
            "probe_since": None,
            "enforced_at": now,
            "enforcement_alarm_at": None,
        } | _erase_if_gone(row, work.desired is None)
    return {
        "probe_for": wanted,
        "probe_since": row.probe_since or now,
        "probe_at": now + PROBE_EVERY,
        "enforced_at": None,
    }


def _erase_if_gone(row: VirtualKey, gone: bool) -> dict[str, Any]:
    """A key that the gateway has forgotten needs no value any more."""
    return {"secret": ""} if gone and row.secret else {}


def _by_number(state: State | None) -> State | None:
    """Without what the person is called by: the trail outlives their account."""
    metadata = (state or {}).get("metadata")
    if state is None or not isinstance(metadata, dict):
        return state
    kept = {name: value for name, value in metadata.items() if name not in PERSONAL}
    return state | {"metadata": kept}


def _event(row: VirtualKey, note: Note, generation: int) -> KeyEvent:
    return KeyEvent(
        key=row,
        action=note.action,
        outcome=note.outcome,
        generation=generation,
        sent=_by_number(note.sent),
        received=_by_number(note.received),
        message=note.message,
        cause_kind=row.cause_kind,
        cause_reference=row.cause_reference,
        cause_actor_id=row.cause_actor_id,
    )


def _follow_up(results: Iterable[KeyResult], rows: Mapping[int, VirtualKey]) -> None:
    """What one key's turn means for other rows."""
    lost = {
        result.work.desired["team_id"]
        for result in results
        if result.plan_missing and result.work.desired is not None
    }
    if lost:
        PlanAtGateway.objects.filter(gateway_id__in=lost).update(
            **behind(Cause.system("missing at the gateway")), in_doubt=True
        )
    removed = [
        (rows[result.work.key_id], result)
        for result in results
        if result.error is None and result.work.desired is None and result.work.key_id in rows
    ]
    if removed:
        # What a key left of the budget is known now; it goes to those that shared it.
        shared = Q(user_id__in={row.user_id for row, _ in removed}) & ~Q(budget_basis="")
        unforeseen = {
            row.user_id for row, result in removed if result.spend and _unforeseen(row, result)
        }
        sharing = VirtualKey.live.filter(shared | Q(user_id__in=unforeseen))
        mark_keys(sharing, cause=Cause.system("budget split"))

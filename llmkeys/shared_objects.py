"""Bring what a plan's keys share into step: its team (models) and its budget row (rates).

The same discipline as for keys (llmkeys.reconcile), with one difference: both calls may be repeated
without harm, so nothing has to be read first unless something is in doubt.
"""

import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from llmkeys import breaker, gateway, provisioning
from llmkeys.acting import obeys
from llmkeys.desired import desired_plan, switches_in_force
from llmkeys.leases import Claim, claim, release
from llmkeys.litellm_client import LiteLLMClient
from llmkeys.litellm_errors import (
    LiteLLMError,
    LiteLLMRejected,
    LiteLLMUnavailable,
    MasterKeyRefused,
)
from llmkeys.models import KeyEvent, PlanAtGateway, VirtualKey
from llmkeys.recording import PARK_REFUSED, PROBE_EVERY, backoff
from llmkeys.spec import NO_MODELS, State, observe_plan
from plans.models import Plan
from tesslate.lib.crypto import decrypt

logger = logging.getLogger(__name__)

# Keys that are tried when models were taken from a plan.
PROBE_SAMPLE = 3


def with_models(plan_ids: Collection[int]) -> list[Plan]:
    return list(Plan.objects.filter(pk__in=plan_ids).prefetch_related("gateway_models"))


def models_by_gateway_id() -> dict[str, frozenset[str]]:
    """The models of each plan as the gateway was last seen to have them."""
    rows = PlanAtGateway.objects.filter(observed__isnull=False)
    return {
        row.gateway_id: frozenset((row.observed or {}).get("models", [])) - {NO_MODELS}
        for row in rows
    }


def ensure(client: LiteLLMClient, plans: Iterable[Plan]) -> set[int]:
    """Make what these plans' keys share, where the gateway has never had it; the plans for which
    that did not work. Raises LiteLLMError when the gateway as a whole does not work."""
    plans = list(plans)
    new = [plan.pk for plan in plans if not _is_there(plan)]
    if not new:
        return set()
    provisioning.ensure_plans(plan for plan in plans if plan.pk in new)
    sync_plans(new, client=client)
    made = PlanAtGateway.objects.filter(plan_id__in=new, observed__isnull=False)
    missing = set(new) - set(made.values_list("plan_id", flat=True))
    if missing and (error := breaker.look(client)) is not None:
        raise error
    return missing


def _is_there(plan: Plan) -> bool:
    shared: PlanAtGateway | None = getattr(plan, "at_gateway", None)
    return shared is not None and shared.observed is not None


def sync_plans(
    plan_ids: Collection[int] | None = None, *, client: LiteLLMClient | None = None
) -> int:
    """Bring these plans' shared objects, or all that are behind, into step; how many."""
    if breaker.is_open():
        return 0
    claimed = claim(PlanAtGateway, limit=50, ids=plan_ids)
    if not claimed.ids:
        return 0
    client = client or gateway.client()
    switches = switches_in_force()
    rows = {row.pk: row for row in PlanAtGateway.objects.filter(pk__in=claimed.ids)}
    for plan in with_models(claimed.ids):
        row = rows[plan.pk]
        desired = desired_plan(plan, switches)
        try:
            observed = put(client, row.gateway_id, desired)
        except MasterKeyRefused as error:
            release(PlanAtGateway, claimed, claimed.ids)
            breaker.open_for(error)
            break
        except LiteLLMError as error:
            _record_failure(claimed, row, error)
        else:
            _record_success(client, claimed, row, desired, observed)
    return len(claimed.ids)


def put(client: LiteLLMClient, gateway_id: str, desired: State) -> State:
    """Make the gateway's team and budget row what is desired, whether or not they exist."""
    rates = desired["budget"]
    budget = client.update_budget(gateway_id, rates)
    if budget is None:
        try:
            budget = client.create_budget(gateway_id, rates)
        except LiteLLMRejected as refusal:
            if not refusal.already_exists:
                raise
            budget = client.update_budget(gateway_id, rates) or {}
    fields = {**desired["team"], "models": desired["models"], "metadata": desired["metadata"]}
    team = client.update_team(gateway_id, fields)
    if team is None:
        try:
            team = client.create_team(gateway_id, {**fields, "team_alias": gateway_id})
        except LiteLLMRejected as refusal:
            if not refusal.already_exists:
                raise
            team = client.update_team(gateway_id, fields) or {}
    observed = observe_plan(team, budget)
    if observed != desired:
        wrong = [name for name, value in desired.items() if observed.get(name) != value]
        raise LiteLLMUnavailable(f"the gateway did not take over: {', '.join(wrong)}")
    return observed


def look_at(client: LiteLLMClient, gateway_id: str) -> State | None:
    """What the gateway holds for a plan now, or None when part of it is missing."""
    team = client.update_team(gateway_id, {})
    budget = client.get_budget(gateway_id)
    return None if team is None or budget is None else observe_plan(team, budget)


def _record_success(
    client: LiteLLMClient, claimed: Claim, row: PlanAtGateway, desired: State, observed: State
) -> None:
    now = timezone.now()
    before: State | None = row.observed
    changes: dict[str, Any] = {
        "desired": desired,
        "observed": observed,
        "observed_generation": row.generation,
        "in_doubt": False,
        "attempts": 0,
        "last_error": "",
        "synced_at": now,
    }
    if before is None or before != observed:
        _note(row, "updated" if before else "created", "done", sent=desired, received=before)
    lost = set((before or {}).get("models", [])) - set(desired["models"]) - {NO_MODELS}
    if lost:
        changes |= _probed(client, row, desired, now)
    with transaction.atomic():
        mine = PlanAtGateway.objects.filter(pk=row.pk, lease_token=claimed.token)
        current = mine.select_for_update().first()
        if current is None:
            return
        changes["dirty_since"] = None if current.generation == row.generation else now
        mine.update(lease_token="", lease_until=None, **changes)


def _record_failure(claimed: Claim, row: PlanAtGateway, error: LiteLLMError) -> None:
    now = timezone.now()
    refused = isinstance(error, LiteLLMRejected)
    retry_after = error.retry_after if isinstance(error, LiteLLMUnavailable) else None
    wait = timedelta(seconds=backoff(row.attempts, retry_after=retry_after))
    PlanAtGateway.objects.filter(pk=row.pk, lease_token=claimed.token).update(
        lease_token="",
        lease_until=None,
        last_error=str(error)[:500],
        next_attempt_at=now + wait,
        parked_at=now if refused and row.attempts >= PARK_REFUSED else None,
    )
    _note(row, "failed", "refused" if refused else "unknown", message=str(error)[:500])


def _note(row: PlanAtGateway, action: str, outcome: str, **details: Any) -> None:
    KeyEvent.objects.create(
        plan_id=row.plan_id,
        action=action,
        outcome=outcome,
        generation=row.generation,
        cause_kind=row.cause_kind,
        cause_reference=row.cause_reference,
        cause_actor_id=row.cause_actor_id,
        **details,
    )


# Proof that the gateway obeys


def _probed(
    client: LiteLLMClient, row: PlanAtGateway, desired: State, now: datetime
) -> dict[str, Any]:
    wanted = {"within": [name for name in desired["models"] if name != NO_MODELS]}
    if probe_plan(client, row.plan_id, wanted):
        return {
            "probe_for": None,
            "probe_since": None,
            "probe_at": None,
            "enforced_at": now,
            "enforcement_alarm_at": None,
        }
    return {
        "probe_for": wanted,
        "probe_since": row.probe_since or now,
        "probe_at": now + PROBE_EVERY,
        "enforced_at": None,
    }


def probe_plan(client: LiteLLMClient, plan_id: int, wanted: State) -> bool:
    """Whether a few of the plan's keys find no model beyond those wanted."""
    sample = VirtualKey.live.filter(
        user__current_entitlement__plan_id=plan_id, observed__isnull=False, blocked_at=None
    ).order_by("-last_used_at", "-pk")[:PROBE_SAMPLE]
    try:
        return all(
            obeys(client, decrypt(key.secret), wanted, settings.LITELLM_PROBE_REPEATS)
            for key in sample
        )
    except LiteLLMUnavailable:
        return False

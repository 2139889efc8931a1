"""From rows to what the gateway should hold. Reads the database; decides nothing by itself: the
decisions are in llmkeys.spec and below in pure functions."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.utils import timezone

from llmkeys.models import PlanAtGateway, SpendLimit, VirtualKey
from llmkeys.spec import Entitled, KeyFacts, State, Window, key_spec, plan_spec
from plans.models import CurrentEntitlement, Plan
from tesslate.lib.sql import fetch

CENTS = Decimal(100)


@dataclass(frozen=True, slots=True)
class Switches:
    """The kill switches in force at one moment."""

    everyone: bool
    plan_ids: frozenset[int]
    model_ids: frozenset[int]
    user_ids: frozenset[int]


_IN_FORCE = """
    SELECT scope, coalesce(plan_id, gateway_model_id, user_id) FROM llmkeys_killswitch
    WHERE lifted_at IS NULL AND (expires_at IS NULL OR expires_at > %(at)s)
        AND (%(users)s::bigint[] IS NULL OR user_id IS NULL OR user_id = ANY(%(users)s))
"""


def switches_in_force(
    at: datetime | None = None, *, user_ids: Collection[int] | None = None
) -> Switches:
    """All switches in force; of those on users only the given ones', where given."""
    users = None if user_ids is None else list(user_ids)
    found: dict[str, set[Any]] = defaultdict(set)
    for scope, withdrawn in fetch(_IN_FORCE, {"at": at or timezone.now(), "users": users}):
        found[scope].add(withdrawn)
    return Switches(
        everyone=bool(found["everyone"]),
        plan_ids=frozenset(found["plan"]),
        model_ids=frozenset(found["model"]),
        user_ids=frozenset(found["user"]),
    )


# Keys


def keys_with_facts(key_ids: Collection[int]) -> list[VirtualKey]:
    """Keys with all the rows that their spec depends on."""
    return list(
        VirtualKey.objects.filter(pk__in=key_ids).select_related(
            "user__current_entitlement__plan__at_gateway", "user__spend_limit"
        )
    )


def keys_to_compare(key_hashes: Collection[str]) -> dict[str, VirtualKey]:
    """Keys by their hash, with what ``desired_key`` and an audit read of each and nothing else of
    their rows, and with one object for each plan rather than one for each key.

    An audit reads every key there is: most of its time goes into making objects of rows.
    """
    keys = {key.key_hash: key for key in _SLIM.filter(key_hash__in=key_hashes)}
    entitlements = [found for key in keys.values() if (found := entitlement_of(key)) is not None]
    plans = Plan.objects.select_related("at_gateway").in_bulk(
        {entitlement.plan_id for entitlement in entitlements}
    )
    for entitlement in entitlements:
        entitlement.plan = plans[entitlement.plan_id]
    return keys


_SLIM = VirtualKey.objects.select_related("user__current_entitlement", "user__spend_limit").only(
    *("key_hash", "alias", "label", "lifecycle", "blocked_at", "generation", "observed_generation"),
    *("lease_until", "synced_at", "window_start", "spend_resets", "budget_cap"),
    *("spend", "last_used_at"),
    *(f"user__{name}" for name in ("email", "is_active", "suspended_at", "deleted_at")),
    *(
        f"user__current_entitlement__{name}"
        for name in ("plan", "limit_percent", "period_start", "overage_cents")
    ),
    "user__spend_limit__limit",
)


def desired_key(key: VirtualKey, switches: Switches) -> State | None:
    """What the gateway should hold for the key, or None when it should hold nothing.

    Raises NoEntitlement while nobody has worked out what the user may have.
    """
    if key.lifecycle == VirtualKey.Lifecycle.RETIRED:
        return None
    entitlement = entitlement_of(key)
    if entitlement is None:
        raise NoEntitlement(f"user {key.user_id} has no entitlement yet")
    facts = KeyFacts(
        key_id=key.pk,
        alias=key.alias,
        label=key.label,
        user_id=key.user_id,
        email=key.user.email,
        blocked=is_blocked(key, switches),
        window=window_of(key, entitlement),
        budget_cap=key.budget_cap,
    )
    return key_spec(entitled(entitlement), facts, managed_by=settings.LITELLM_KEY_PREFIX)


class NoEntitlement(Exception):
    """The plans app has not yet said what the user may have."""


def entitlement_of(key: VirtualKey) -> CurrentEntitlement | None:
    return getattr(key.user, "current_entitlement", None)


def is_blocked(key: VirtualKey, switches: Switches) -> bool:
    return (
        key.blocked_at is not None
        or not key.user.may_use_models
        or key.user_id in switches.user_ids
    )


def window_of(key: VirtualKey, entitlement: CurrentEntitlement) -> Window:
    """The budget window that the key is in.

    It follows the billing period forward and never back: a return to a plan whose period began
    earlier does not hand out that period's budget again.
    """
    start = entitlement.period_start
    if key.window_start is not None and key.window_start > start:
        start = key.window_start
    return Window(start, key.spend_resets)


def entitled(entitlement: CurrentEntitlement) -> Entitled:
    plan = entitlement.plan
    return Entitled(
        plan_code=plan.code,
        gateway_id=gateway_id(plan),
        budget=budget_of(entitlement),
        rpm=plan.rpm,
        tpm=plan.tpm,
        max_parallel_requests=plan.max_parallel_requests,
        limit_percent=entitlement.limit_percent,
    )


def budget_of(entitlement: CurrentEntitlement) -> Decimal:
    """US dollars a period: what the plan includes and what the payer allows on top, and no more
    than the customers' own hard budgets leave (llmkeys.spend_budgets)."""
    budget = Decimal(entitlement.plan.budget_cents + entitlement.overage_cents) / CENTS
    own: SpendLimit | None = getattr(entitlement.user, "spend_limit", None)
    return budget if own is None else min(budget, own.limit)


def gateway_id(plan: Plan) -> str:
    shared: PlanAtGateway | None = getattr(plan, "at_gateway", None)
    return shared.gateway_id if shared else f"{settings.LITELLM_KEY_PREFIX}-{plan.code}"


# Plans


def usable_models(plan: Plan, switches: Switches) -> list[str]:
    """The plan's models as its users may call them now. Reads ``gateway_models``."""
    if switches.everyone or plan.pk in switches.plan_ids:
        return []
    return [
        model.name
        for model in plan.gateway_models.all()
        if model.disabled_at is None and model.pk not in switches.model_ids
    ]


def desired_plan(plan: Plan, switches: Switches) -> State:
    return plan_spec(
        code=plan.code,
        models=usable_models(plan, switches),
        rpm=plan.rpm,
        tpm=plan.tpm,
        managed_by=settings.LITELLM_KEY_PREFIX,
    )


def plan_key_fields(plan: Plan) -> dict[str, Any]:
    """What of a plan is written into each of its keys rather than shared between them."""
    return {
        "code": plan.code,
        "budget_cents": plan.budget_cents,
        "max_parallel_requests": plan.max_parallel_requests,
    }


def plans_of(keys: Iterable[VirtualKey]) -> dict[int, Plan]:
    found = (entitlement_of(key) for key in keys)
    return {entry.plan_id: entry.plan for entry in found if entry is not None}

"""A user's limits as the plan has them, as we want them at the gateway, and as it was last seen to
have them."""

from typing import Any

from accounts.models import User
from llmkeys import desired
from llmkeys.models import PlanAtGateway, VirtualKey
from llmkeys.spec import NO_MODELS, State


def side_by_side(user: User) -> list[dict[str, Any]]:
    """One row for each limit of each key: ``key``, ``limit``, ``plan``, ``desired``, ``observed``,
    ``in_step``."""
    ids = list(VirtualKey.live.filter(user=user).order_by("-pk").values_list("pk", flat=True))
    keys = desired.keys_with_facts(ids)
    switches = desired.switches_in_force(user_ids=[user.pk])
    return [row for key in keys for row in _rows(key, switches)]


def _rows(key: VirtualKey, switches: desired.Switches) -> list[dict[str, Any]]:
    entitlement = desired.entitlement_of(key)
    if entitlement is None:
        return []
    plan = entitlement.plan
    shared = PlanAtGateway.objects.filter(plan=plan).first()
    wanted_plan = desired.desired_plan(plan, switches)
    wanted_key = desired.desired_key(key, switches) or {}
    seen_plan: State = (shared.observed if shared else None) or {}
    seen_key = key.observed_value
    rows: list[tuple[str, Any, Any, Any]] = [
        (
            "models",
            sorted(model.name for model in plan.gateway_models.all()),
            _names(wanted_plan.get("models")),
            _names(seen_plan.get("models")) if seen_key else None,
        ),
        (
            "budget",
            f"{plan.budget_cents / 100:.2f}",
            wanted_key.get("max_budget"),
            seen_key.get("max_budget"),
        ),
        ("blocked", False, wanted_key.get("blocked"), seen_key.get("blocked")),
        (
            "window",
            entitlement.period_start.isoformat(timespec="seconds"),
            wanted_key.get("metadata", {}).get("window"),
            seen_key.get("metadata", {}).get("window"),
        ),
    ]
    for name in ("rpm_limit", "tpm_limit", "max_parallel_requests"):
        field = name.removesuffix("_limit")
        rows.append(
            (
                field,
                getattr(plan, field),
                _own_or_shared(name, wanted_key, wanted_plan),
                _own_or_shared(name, seen_key, seen_plan) if seen_key else None,
            )
        )
    return [
        {
            "key": f"…{key.last_four}",
            "limit": limit,
            "plan": plan_value,
            "desired": wanted,
            "observed": seen,
            "in_step": wanted == seen,
        }
        for limit, plan_value, wanted, seen in rows
    ]


def _names(models: list[str] | None) -> list[str] | None:
    return None if models is None else [name for name in models if name != NO_MODELS]


def _own_or_shared(name: str, key: State, plan: State) -> Any:
    """The key's own value where it has one, else that of its plan's budget row."""
    own = key.get(name)
    return own if own is not None else plan.get("budget", {}).get(name)

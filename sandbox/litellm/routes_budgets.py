"""Budget rows, which keys share through budget_id: /budget/…"""

import secrets
import time
from typing import Any

from sandbox.litellm import errors, shapes
from sandbox.litellm.durations import DurationError, budget_reset
from sandbox.litellm.records import Budget
from sandbox.litellm.requests import Request
from sandbox.litellm.schema import parse_object

BUDGET_FIELDS = {
    **dict.fromkeys(["budget_id", "budget_duration"], "str"),
    **dict.fromkeys(["max_budget", "soft_budget"], "float"),
    **dict.fromkeys(["max_parallel_requests", "tpm_limit", "rpm_limit", "tpd_limit"], "limit"),
}
BUDGET_SETTINGS = {
    "max_budget": ("Float", "Requests will fail if this budget (in USD) is exceeded."),
    "soft_budget": ("Float", "Requests will NOT fail if this is exceeded. Will fire alerting."),
    "max_parallel_requests": ("Integer", "Max concurrent requests allowed for this budget id."),
    "tpm_limit": ("Integer", "Max tokens per minute, allowed for this budget id."),
    "rpm_limit": ("Integer", "Max requests per minute, allowed for this budget id."),
    "tpd_limit": ("Integer", "Max tokens per day, allowed for this budget id."),
    "budget_duration": ("String", "Max duration budget should be set for (e.g. '1hr', '1d')"),
}


def new_budget(request: Request) -> Any:
    given = parse_object(request.body, BUDGET_FIELDS)
    store = request.gateway.store
    budget_id = given.get("budget_id") or secrets.token_hex(16)
    if budget_id in store.budgets:
        raise errors.detail_error(400, f"Budget with id '{budget_id}' already exists.")
    budget = Budget(budget_id=budget_id)
    change_budget(budget, given)
    store.save_budget(budget)
    return shapes.budget_row(budget)


def update_budget(request: Request) -> Any:
    """A merge patch. A row that does not exist: 200 and null, as if nothing were wrong."""
    given = parse_object(request.body, BUDGET_FIELDS)
    if not given.get("budget_id"):
        raise errors.detail_error(400, "budget_id is required")
    store = request.gateway.store
    budget = store.budgets.get(given["budget_id"])
    if budget is None:
        return None
    change_budget(budget, given)
    budget.updated_at = time.time()
    store.save_budget(budget)
    return shapes.budget_row(budget)


def change_budget(budget: Budget, given: dict[str, Any]) -> None:
    amount = given.get("max_budget")
    if amount is not None and amount < 0:
        text = f"max_budget must be a non-negative finite number. Received: {amount}"
        raise errors.detail_error(400, text)
    if "budget_duration" in given:
        duration = given["budget_duration"]
        try:
            budget.budget_reset_at = budget_reset(duration, time.time()) if duration else None
        except DurationError as error:
            raise errors.detail_error(400, str(error)) from None
    for name in BUDGET_FIELDS:
        if name in given and name != "budget_id":
            setattr(budget, name, given[name])


def budget_info(request: Request) -> Any:
    given = parse_object(request.body, {"budgets": "list"}, ("budgets",))
    if not given["budgets"]:
        raise errors.detail_error(400, "Specify list of budget id's to query. Passed in=[]")
    budgets = request.gateway.store.budgets
    return [shapes.budget_row(budgets[name]) for name in given["budgets"] if name in budgets]


def list_budgets(request: Request) -> Any:
    return [shapes.budget_row(budget) for budget in request.gateway.store.budgets.values()]


def budget_settings(request: Request) -> Any:
    if "budget_id" not in request.query:
        raise errors.invalid("missing", ["query", "budget_id"], "Field required")
    budget = request.gateway.store.budgets.get(request.query["budget_id"])
    return [
        {
            "field_name": name,
            "field_type": kind,
            "field_description": text,
            "field_value": getattr(budget, name, None),
            "stored_in_db": True,
            "field_default_value": None,
        }
        for name, (kind, text) in BUDGET_SETTINGS.items()
    ]


def delete_budget(request: Request) -> Any:
    """The keys that shared it are left without: the foreign key is set to null."""
    given = parse_object(request.body, {"id": "str"}, ("id",))
    store = request.gateway.store
    budget = store.budgets.pop(given["id"], None)
    if budget is None:
        return None
    for key in store.keys.values():
        if key.budget_id == budget.budget_id:
            key.budget_id = None
            store.save_spend(key)
    store.delete_shared("budget", budget.budget_id)
    return shapes.budget_row(budget)

"""What the gateway should hold, as a pure function of our rows; and how that differs from what it
holds. No database, no network, no clock.

Both sides are brought into one form, a JSON-able dict of the fields that we care about, so that
comparing them needs no knowledge of LiteLLM. Three of LiteLLM's traps are kept out here:

* an empty list of models means *all* models: a key always names its team's models, and a team
  without models names NO_MODELS;
* a missing budget means *unlimited*: money is always a finite number, zero included;
* sending ``duration`` or ``budget_duration`` again moves deadlines: they are never sent, save as
  null to undo what somebody else set.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

# LiteLLM's own words in a list of models.
TEAM_MODELS = "all-team-models"
NO_MODELS = "no-default-models"
# Parts of a key's metadata that say who the customer is, in words of their own.
PERSONAL = frozenset({"email", "label"})
MODEL_ROUTES_ONLY = ["llm_api_routes"]

# LiteLLM stores money as double precision; a millionth of a dollar is less than any call costs.
MONEY_TOLERANCE = Decimal("0.000001")

State = dict[str, Any]


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """One budget window of one key: when it began, and how often staff have reset it since."""

    start: datetime
    resets: int = 0

    def __str__(self) -> str:
        base = self.start.isoformat(timespec="seconds")
        return f"{base} reset {self.resets}" if self.resets else base

    @classmethod
    def named(cls, name: str) -> "Window | None":
        """The window that ``str`` gave this name; None for what is no window's name."""
        base, _, resets = name.partition(" reset ")
        try:
            window = cls(datetime.fromisoformat(base), int(resets or 0))
        except ValueError:
            return None
        return window if window.start.tzinfo is not None else None


@dataclass(frozen=True, slots=True)
class Entitled:
    """What a user may have, as the key needs it (plans.models.CurrentEntitlement)."""

    plan_code: str
    gateway_id: str
    budget: Decimal
    rpm: int
    tpm: int
    max_parallel_requests: int
    limit_percent: int = 100


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What the key's own row and its user say."""

    key_id: int
    alias: str
    label: str
    user_id: int
    email: str
    blocked: bool
    window: Window
    # Set when several keys share the user's budget.
    budget_cap: Decimal | None = None


def key_spec(entitled: Entitled, facts: KeyFacts, *, managed_by: str) -> State:
    """What the gateway should hold for this key.

    Rates are left to the plan's shared budget row unless the user has only a share of them. The
    number of parallel requests cannot be: LiteLLM reads it from the key alone.
    """
    share = entitled.limit_percent
    throttled = share < 100
    budget = entitled.budget if facts.budget_cap is None else facts.budget_cap
    return {
        "alias": facts.alias,
        "models": [TEAM_MODELS],
        "team_id": entitled.gateway_id,
        "budget_id": entitled.gateway_id,
        "max_budget": money_text(budget),
        "rpm_limit": _share(entitled.rpm, share) if throttled else None,
        "tpm_limit": _share(entitled.tpm, share) if throttled else None,
        "max_parallel_requests": _share(entitled.max_parallel_requests, share),
        "blocked": facts.blocked,
        "expires": None,
        "budget_duration": None,
        "user_id": None,
        "allowed_routes": MODEL_ROUTES_ONLY,
        "metadata": {
            "managed_by": managed_by,
            "key": facts.key_id,
            "label": facts.label,
            "user": facts.user_id,
            "email": facts.email,
            "plan": entitled.plan_code,
            "window": str(facts.window),
        },
    }


def plan_spec(*, code: str, models: Iterable[str], rpm: int, tpm: int, managed_by: str) -> State:
    """What the gateway should hold for a plan: its team's models and its budget row's rates.

    The team has no limits of its own: they would hold for all its keys together.
    """
    return {
        "models": sorted(set(models)) or [NO_MODELS],
        "team": {"blocked": False, "max_budget": None, "rpm_limit": None, "tpm_limit": None},
        "metadata": {"managed_by": managed_by, "plan": code},
        "budget": {"rpm_limit": rpm, "tpm_limit": tpm, "max_budget": None},
    }


def _share(limit: int, percent: int) -> int:
    """A share of a limit, and never none of it."""
    return max(1, limit * percent // 100)


def fingerprint(state: Mapping[str, Any] | None) -> str:
    """The same for equal states, whatever the order of their fields."""
    text = json.dumps(state, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# The gateway's side


def observe_key(row: Mapping[str, Any]) -> State:
    """The gateway's row for a key, in the form of ``key_spec``."""
    return {
        "alias": row.get("key_alias"),
        "models": list(row.get("models") or []),
        "team_id": row.get("team_id"),
        "budget_id": row.get("budget_id"),
        "max_budget": money_text(row.get("max_budget")),
        "rpm_limit": row.get("rpm_limit"),
        "tpm_limit": row.get("tpm_limit"),
        "max_parallel_requests": row.get("max_parallel_requests"),
        "blocked": bool(row.get("blocked")),
        "expires": row.get("expires"),
        "budget_duration": row.get("budget_duration"),
        "user_id": row.get("user_id"),
        "allowed_routes": list(row.get("allowed_routes") or []),
        "metadata": dict(row.get("metadata") or {}),
    }


def observe_plan(team: Mapping[str, Any], budget: Mapping[str, Any]) -> State:
    """The gateway's team and budget row, in the form of ``plan_spec``."""
    return {
        "models": sorted(team.get("models") or []),
        "team": {
            "blocked": bool(team.get("blocked")),
            "max_budget": team.get("max_budget"),
            "rpm_limit": team.get("rpm_limit"),
            "tpm_limit": team.get("tpm_limit"),
        },
        "metadata": dict(team.get("metadata") or {}),
        "budget": {
            "rpm_limit": budget.get("rpm_limit"),
            "tpm_limit": budget.get("tpm_limit"),
            "max_budget": budget.get("max_budget"),
        },
    }


def spend_of(row: Mapping[str, Any]) -> Decimal:
    return money(row.get("spend")) or Decimal(0)


def last_used(row: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(str(row.get("last_active")))
    except ValueError:
        return None


# Differences


def differences(desired: State, observed: State) -> list[str]:
    """The names of the fields in which the two differ."""
    if desired == observed:  # nearly always, and much sooner told than field by field
        return []
    return [name for name, value in desired.items() if not _same(name, value, observed.get(name))]


def changes_needed(desired: State, observed: State) -> State:
    """The fields to send so that the gateway's key becomes what it should be; empty for none.

    A new budget window takes the spend back to zero in the same call that names the window, so
    that reading the key back tells whether it has been done: once for each window, whatever fails.
    """
    patch: State = {}
    for name in differences(desired, observed):
        if name == "alias":
            patch["key_alias"] = desired["alias"]
        elif name == "expires":
            patch["duration"] = None
        elif name == "max_budget":
            patch["max_budget"] = required_money(desired["max_budget"])
        else:
            patch[name] = desired[name]
    if "metadata" in patch and starts_window(desired, observed):
        patch["spend"] = 0
    return patch


def starts_window(desired: State, observed: State) -> bool:
    before: Any = (observed.get("metadata") or {}).get("window")
    return bool(desired["metadata"]["window"] != before)


def window_in(state: State) -> Window | None:
    """The window that a key's state names, desired or observed; None where it names none."""
    return Window.named(str((state.get("metadata") or {}).get("window", "")))


# A year's period, and what a calendar may add: further on lies only what somebody has made up.
FURTHEST_AHEAD = timedelta(days=400)


def further_window(desired: State, observed: State) -> Window | None:
    """The window that a key is in already, where that is later than the one it should begin."""
    seen, wanted = window_in(observed), window_in(desired)
    if seen is None or wanted is None or not wanted < seen:
        return None
    return seen if seen.start < wanted.start + FURTHEST_AHEAD else None


def creation(desired: State, *, spend: Decimal) -> State:
    """The fields of the call that makes the key, with the spend that it starts from."""
    skipped = {"alias", "expires", "budget_duration", "user_id", "allowed_routes"}
    fields = {
        name: value for name, value in desired.items() if name not in skipped and value is not None
    }
    return {
        **fields,
        "key_alias": desired["alias"],
        "max_budget": required_money(desired["max_budget"]),
        "key_type": "llm_api",
        "spend": spend,
    }


def takes_access_away(
    desired: State | None, observed: State | None, *, loses_models: bool = True
) -> bool:
    """Whether a key that could call models before can call fewer, or none, after.

    ``loses_models``: whether the plan that the key leaves, where it leaves one, has models that
    the new one has not.
    """
    if observed is None or observed["blocked"]:
        return False
    if desired is None or desired["blocked"]:
        return True
    moves = bool(desired["team_id"] != observed["team_id"])
    return (moves and loses_models) or bool(observed["models"] != desired["models"])


# Money


def money(value: object) -> Decimal | None:
    """A finite amount, or None for what LiteLLM reads as unlimited (null, NaN, infinite)."""
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def money_text(value: object) -> str | None:
    """An amount as it is stored in our JSON columns: plain, without trailing zeros."""
    amount = money(value)
    return None if amount is None else f"{amount.normalize():f}"


def required_money(value: object) -> Decimal:
    """An amount that may be sent. Raises ValueError for one that would mean *unlimited*."""
    amount = money(value)
    if amount is None or amount < 0:
        raise ValueError(f"{value!r} is no budget")
    return amount


def _same(name: str, desired: object, observed: object) -> bool:
    if name != "max_budget":
        return desired == observed
    wanted, found = money(desired), money(observed)
    if wanted is None or found is None:
        return wanted is found
    return abs(wanted - found) < MONEY_TOLERANCE

"""What a key may do, worked out from the key and what it shares with others.

A view is a snapshot: LiteLLM, too, goes on serving what it remembers of a key until that runs
out, in each process for itself. `Remembered` plays that second process.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.litellm import errors
from sandbox.litellm.catalogue import Catalogue
from sandbox.litellm.durations import budget_reset
from sandbox.litellm.limits import Holder
from sandbox.litellm.records import Key, Team, User

if TYPE_CHECKING:
    from sandbox.litellm.store import Store

ALL_TEAM_MODELS = "all-team-models"
ALL_PROXY_MODELS = "all-proxy-models"

# None: every model there is.
Allowed = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class View:
    key: Key
    user: User | None
    team: Team | None
    blocked: bool
    team_blocked: bool
    expires: float | None
    allowed_routes: tuple[str, ...]
    key_models: Allowed
    user_models: Allowed
    team_models: Allowed
    max_budget: float | None
    rpm: int | None
    tpm: int | None
    holders: tuple[Holder, ...]

    def refuse_model(self, model: object) -> errors.Refusal | None:
        """LiteLLM asks in this order whose list stands against the model."""
        for owner, allowed in (
            ("key", self.key_models),
            ("user", self.user_models),
            ("team", self.team_models),
        ):
            if allowed is not None and model not in allowed:
                return errors.model_not_allowed(owner, model)
        return None

    def refuse_budget(self) -> errors.Refusal | None:
        """Spend is read live: its counters are shared by all processes."""
        key, user, team = self.key, self.user, self.team
        if self.max_budget is not None and key.spend >= self.max_budget:
            return errors.budget_exceeded(
                f"Budget has been exceeded! Key=key ({key.key_name}) "
                f"Current cost: {key.spend}, Max budget: {self.max_budget}"
            )
        if user is not None and user.max_budget is not None and user.spend >= user.max_budget:
            return errors.budget_exceeded(
                f"ExceededBudget: User={user.user_id} over budget. "
                f"Spend={user.spend}, Budget={user.max_budget}"
            )
        if team is not None and team.max_budget is not None and team.spend >= team.max_budget:
            return errors.budget_exceeded(
                f"Budget has been exceeded! Team={team.team_id} "
                f"Current cost: {team.spend}, Max budget: {team.max_budget}"
            )
        return None

    def models(self, catalogue: Catalogue) -> list[str]:
        """The models it may call, as /v1/models lists them: the user's list does not count."""
        return [
            name
            for name in catalogue.models
            if (self.key_models is None or name in self.key_models)
            and (self.team_models is None or name in self.team_models)
        ]


def view_of(store: "Store", catalogue: Catalogue, key: Key) -> View:
    budget = store.budgets.get(key.budget_id) if key.budget_id else None
    team = store.teams.get(key.team_id) if key.team_id else None
    # A team's key answers to the team, not to its user's own lists and limits.
    user = store.users.get(key.user_id) if key.user_id and team is None else None
    rpm, tpm, max_budget = key.rpm_limit, key.tpm_limit, key.max_budget
    if budget is not None:
        rpm = budget.rpm_limit if rpm is None else rpm
        tpm = budget.tpm_limit if tpm is None else tpm
        max_budget = budget.max_budget if max_budget is None else max_budget
    holders = [Holder("api_key", key.token, rpm, tpm, key.max_parallel_requests)]
    for owner, name, record in (
        ("user", key.user_id, user),
        ("team", key.team_id, team),
    ):
        if record is not None and (record.rpm_limit, record.tpm_limit) != (None, None):
            holders.append(Holder(owner, str(name), record.rpm_limit, record.tpm_limit))
    return View(
        key=key,
        user=user,
        team=team,
        blocked=bool(key.blocked),
        team_blocked=team is not None and team.blocked,
        expires=key.expires,
        allowed_routes=tuple(key.allowed_routes),
        key_models=_key_models(store, catalogue, key),
        user_models=_expand(catalogue, user.models) if user else None,
        team_models=_expand(catalogue, team.models) if team else None,
        max_budget=max_budget,
        rpm=rpm,
        tpm=tpm,
        holders=tuple(holders),
    )


def start_new_budget_window(key: Key, now: float) -> bool:
    """Zero the spend of a key whose budget window is over."""
    if key.budget_reset_at is None or key.budget_reset_at > now or not key.budget_duration:
        return False
    key.spend = 0.0
    key.budget_reset_at = budget_reset(key.budget_duration, now)
    return True


class Remembered:
    """A second process, asked every other time, that remembers views for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.views: dict[str, tuple[float, View]] = {}
        self.turn = False

    def choose(self, token: str, current: View | None, now: float) -> View | None:
        self.turn = not self.turn
        if not self.turn:
            return current
        until, view = self.views.get(token, (0.0, current))
        if until > now:
            return view
        if current is None:
            self.views.pop(token, None)
        else:
            self.views[token] = (now + self.seconds, current)
        return current


def _key_models(store: "Store", catalogue: Catalogue, key: Key) -> Allowed:
    allowed = _expand(catalogue, key.models)
    if allowed is None or ALL_TEAM_MODELS in key.models:
        return None
    more = [
        name
        for group_id in key.access_group_ids
        if (group := store.groups.get(group_id)) is not None
        for name in group.access_model_names
    ]
    return allowed.union(more)


def _expand(catalogue: Catalogue, models: list[str]) -> Allowed:
    """Names and access groups as model names. An empty list, too, is every model."""
    if not models or ALL_PROXY_MODELS in models:
        return None
    names = set(models)
    for name in models:
        names |= catalogue.groups.get(name, frozenset())
    return frozenset(names)

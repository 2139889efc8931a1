"""How a random history must end, judged by what the gateway then holds and does."""

from contextlib import suppress
from dataclasses import dataclass

from accounts.models import User
from llmkeys import gateway
from llmkeys.credentials import credential_for
from llmkeys.models import KillSwitch, PlanAtGateway, VirtualKey
from llmkeys.spec import differences, observe_key
from plans.models import CurrentEntitlement, Plan
from tesslate.lib.crypto import decrypt
from tesslate.lib.errors import ApiError
from tests.llmkeys.standin import StandIn

CENT = 1e-4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history knows besides our rows and the gateway's."""

    standin: StandIn
    plans: list[Plan]
    # Keys at the gateway that are not ours.
    foreign: set[str]
    # Dollars by user and budget window.
    spent: dict[tuple[int, str], float]
    # Users whose spend the gateway was made to forget: only their budget itself is judged.
    inexact: set[int]

    def everything(self) -> None:
        for person in User.objects.select_related("current_entitlement__plan"):
            self.judge_person(person)
        live = set(VirtualKey.live.values_list("key_hash", flat=True))
        assert set(self.standin.keys) - self.foreign == live, "an orphan, or a key too few"
        assert self.foreign <= set(self.standin.keys), "a key that is not ours was touched"
        for plan in self.plans:
            self.judge_plan(Plan.objects.get(pk=plan.pk))

    def judge_person(self, person: User) -> None:
        entitlement = person.current_entitlement
        keys = list(VirtualKey.objects.filter(user=person))
        live = [key for key in keys if key.lifecycle != "retired"]
        if person.deleted_at is not None:
            assert not live, "a closed account has a live key"
        for key in keys:
            self.judge_key(key, person, entitlement)
        if live:
            self.judge_budget(person, live, entitlement.plan)

    def judge_key(self, key: VirtualKey, person: User, entitlement: CurrentEntitlement) -> None:
        assert key.is_in_step, f"{key!r} is behind: {key.last_error}"
        assert key.probe_for is None, f"{key!r} is still being watched"
        if key.lifecycle == "retired":
            assert key.key_hash not in self.standin.keys
            return
        row = self.standin.key(key)
        found = observe_key(gateway.client().get_key(key.key_hash) or {})
        assert differences(key.desired or {}, found) == [], f"{key!r} differs from what we want"
        assert key.observed is not None
        assert differences(key.observed, found) == [], f"{key!r} is not as we believe"
        may = gateway.client().probe(decrypt(key.secret))
        switched_off = KillSwitch.objects.filter(lifted_at=None, user=person).exists()
        if person.suspended_at or not person.is_active or key.blocked_at or switched_off:
            assert may.is_refused, f"{key!r} works although it must not"
        elif row.spend < (row.max_budget or 0):
            assert may.models == self.models_of(entitlement.plan), f"{key!r} has wrong models"
            with suppress(ApiError):
                assert credential_for(person.pk).key_id in {k.pk for k in [key]} | {
                    k.pk for k in VirtualKey.live.filter(user=person)
                }
        share = entitlement.limit_percent
        plan = Plan.objects.get(pk=entitlement.plan_id)
        assert row.team_id == row.budget_id == f"tesslate-{plan.code}"
        assert row.rpm_limit == (None if share == 100 else max(1, plan.rpm * share // 100))

    def judge_budget(self, person: User, live: list[VirtualKey], plan: Plan) -> None:
        """All keys together can spend what is left of one budget, and no more."""
        budget = Plan.objects.get(pk=plan.pk).budget_cents / 100
        rows = [self.standin.key(key) for key in live]
        windows = {(row.metadata or {})["window"] for row in rows}
        assert len(windows) == 1, "keys of one user are in different windows"
        left = sum(max(0.0, (row.max_budget or 0) - row.spend) for row in rows)
        assert left <= budget + CENT, f"user {person.pk} has more than one budget"
        if person.pk not in self.inexact:
            spent = self.spent.get((person.pk, windows.pop()), 0)
            assert left <= max(0.0, budget - spent) + CENT, f"user {person.pk} was given {left}"

    def models_of(self, plan: Plan) -> frozenset[str]:
        off = KillSwitch.objects.filter(lifted_at=None)
        if off.filter(scope="everyone").exists() or off.filter(plan=plan).exists():
            return frozenset()
        names = plan.gateway_models.filter(disabled_at=None).exclude(
            pk__in=off.filter(scope="model").values("gateway_model")
        )
        return frozenset(names.values_list("name", flat=True))

    def judge_plan(self, plan: Plan) -> None:
        name = f"tesslate-{plan.code}"
        if not PlanAtGateway.objects.filter(plan=plan).exists():
            return
        if name in self.standin.teams:
            models = set(self.standin.teams[name].models) - {"no-default-models"}
            assert self.standin.teams[name].models, "an empty list of models opens everything"
            assert models == self.models_of(plan)
            assert self.standin.budgets[name].rpm_limit == plan.rpm

"""Plans and models as the chat path needs them: plain values, read once in a while."""

from dataclasses import dataclass

from plans.models import GatewayModel, Plan


@dataclass(frozen=True, slots=True)
class PlanTerms:
    id: int
    code: str
    rank: int
    is_public: bool
    models: frozenset[str]
    rpm: int
    tpm: int
    max_parallel_requests: int
    budget_cents: int
    default_max_tokens: int
    max_tokens_ceiling: int
    default_temperature: float
    temperature_ceiling: float
    client_system_messages: str
    abort_billing: str
    stores_content: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    plans: dict[int, PlanTerms]
    # Every model that callers may name, and those that staff have withdrawn.
    models: frozenset[str]
    disabled: frozenset[str]

    def upgrade_for(self, plan: PlanTerms, model: str | None = None) -> str | None:
        """The lowest public plan above this one, which also has ``model`` where one is named."""
        better = (
            other
            for other in self.plans.values()
            if other.is_public
            and other.rank > plan.rank
            and (model is None or model in other.models)
        )
        found = min(better, key=lambda other: other.rank, default=None)
        return None if found is None else found.code


def load_catalogue() -> Catalogue:
    plans = Plan.objects.prefetch_related("gateway_models")
    models = dict(GatewayModel.objects.values_list("name", "disabled_at"))
    disabled = frozenset(name for name, since in models.items() if since is not None)
    return Catalogue(
        plans={plan.pk: _terms(plan, disabled) for plan in plans},
        models=frozenset(models),
        disabled=disabled,
    )


def _terms(plan: Plan, disabled: frozenset[str]) -> PlanTerms:
    return PlanTerms(
        id=plan.pk,
        code=plan.code,
        rank=plan.rank,
        is_public=plan.is_public and plan.archived_at is None,
        models=frozenset(model.name for model in plan.gateway_models.all()) - disabled,
        rpm=plan.rpm,
        tpm=plan.tpm,
        max_parallel_requests=plan.max_parallel_requests,
        budget_cents=plan.budget_cents,
        default_max_tokens=plan.default_max_tokens,
        max_tokens_ceiling=plan.max_tokens_ceiling,
        default_temperature=float(plan.default_temperature),
        temperature_ceiling=float(plan.temperature_ceiling),
        client_system_messages=plan.client_system_messages,
        abort_billing=plan.abort_billing,
        stores_content=plan.stores_content,
    )

"""The playground's model picker: what the plan has, and which plan unlocks the rest."""

from dataclasses import dataclass

from plans.models import GatewayModel, Plan
from plans.selectors import models_of, plans_on_sale


@dataclass(frozen=True, slots=True)
class ModelGroup:
    title: str
    models: list[GatewayModel]
    # The cheapest public plan that has them; empty for what the user has already.
    plan: Plan | None = None


def model_groups(plan: Plan) -> list[ModelGroup]:
    """The plan's own models first, then those of larger plans, each under the first to have it."""
    mine = list(models_of(plan))
    groups = [ModelGroup(f"Included in {plan.name}", mine)] if mine else []
    seen = {model.pk for model in mine}
    for larger in plans_on_sale().filter(rank__gt=plan.rank).order_by("rank"):
        available: list[GatewayModel] = larger.available_models  # type: ignore[attr-defined]
        new = [model for model in available if model.pk not in seen]
        seen.update(model.pk for model in new)
        if new:
            groups.append(ModelGroup(f"With {larger.name}", new, larger))
    return groups


def plan_names() -> dict[str, str]:
    """Of the plans that can be bought, by the codes that the API's refusals name."""
    return dict(plans_on_sale().values_list("code", "name"))

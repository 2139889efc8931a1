"""The plans that the product is delivered with: seeded once, staff's edits never overwritten."""

from dataclasses import dataclass, field

from django.db import transaction

from plans.models import GatewayModel, Plan, Price
from plans.signals import plan_changed
from tesslate.lib.cause import Cause


@dataclass(frozen=True, slots=True)
class SeedModel:
    name: str
    title: str
    provider: str
    description: str
    context_window: int


@dataclass(frozen=True, slots=True)
class SeedPlan:
    code: str
    name: str
    description: str
    rank: int
    rpm: int
    tpm: int
    max_parallel_requests: int
    budget_cents: int
    models: tuple[str, ...]
    # Interval and amount in US cents.
    prices: tuple[tuple[str, int], ...] = ()
    is_default: bool = False


@dataclass(slots=True)
class Seeded:
    """What was missing and is there now."""

    made: list[str] = field(default_factory=list)


MODELS = (
    SeedModel(
        "groq-llama-3.1-8b", "Llama 3.1 8B", "Groq", "Fast answers to short questions.", 131072
    ),
    SeedModel("basic-chat", "Basic chat", "Tesslate", "Everyday conversation at low cost.", 131072),
    SeedModel(
        "groq-llama-3.1-70b", "Llama 3.1 70B", "Groq", "Well-reasoned longer answers.", 131072
    ),
    SeedModel("advanced-chat", "Advanced chat", "Tesslate", "Our pick for demanding work.", 131072),
    SeedModel(
        "groq-llama-3.1-405b", "Llama 3.1 405B", "Groq", "The largest open Llama 3.1.", 131072
    ),
    SeedModel("tesslate-uigen-v1", "UIGEN v1", "Tesslate", "Writes user interfaces.", 32768),
    SeedModel(
        "llama-4-maverick", "Llama 4 Maverick", "Meta", "Large, fast, reads images.", 1048576
    ),
)

_FREE = ("groq-llama-3.1-8b", "basic-chat")
_PLUS = (*_FREE, "groq-llama-3.1-70b", "advanced-chat")
_PRO = (*_PLUS, "groq-llama-3.1-405b", "tesslate-uigen-v1", "llama-4-maverick")

PLANS = (
    SeedPlan(
        code="free",
        name="Free",
        description="Try the platform: small models, modest limits, no card needed.",
        rank=0,
        rpm=20,
        tpm=20_000,
        max_parallel_requests=2,
        budget_cents=100,
        models=_FREE,
        is_default=True,
    ),
    SeedPlan(
        code="plus",
        name="Plus",
        description="Larger models and room for daily work.",
        rank=10,
        rpm=100,
        tpm=100_000,
        max_parallel_requests=10,
        budget_cents=2_000,
        models=_PLUS,
        prices=(("month", 1_900), ("year", 19_000)),
    ),
    SeedPlan(
        code="pro",
        name="Pro",
        description="Every model, the highest limits, and the largest budget.",
        rank=20,
        rpm=500,
        tpm=500_000,
        max_parallel_requests=25,
        budget_cents=10_000,
        models=_PRO,
        prices=(("month", 9_900), ("year", 99_000)),
    ),
)


@transaction.atomic
def seed_plans() -> Seeded:
    """Make the models, plans and prices that are missing; leave alone all that is there.

    A plan that exists keeps its models, limits and prices, whatever they are now; a model that
    exists keeps its title. So this may run at every start.
    """
    seeded = Seeded()
    for model in MODELS:
        _, made = GatewayModel.objects.get_or_create(
            name=model.name,
            defaults={
                "title": model.title,
                "provider": model.provider,
                "description": model.description,
                "context_window": model.context_window,
            },
        )
        if made:
            seeded.made.append(f"model {model.name}")
    has_default = Plan.objects.filter(is_default=True).exists()
    for seed in PLANS:
        if Plan.objects.filter(code=seed.code).exists():
            continue
        _make_plan(seed, is_default=seed.is_default and not has_default)
        seeded.made.append(f"plan {seed.code}")
    return seeded


def _make_plan(seed: SeedPlan, *, is_default: bool) -> None:
    plan = Plan.objects.create(
        code=seed.code,
        name=seed.name,
        description=seed.description,
        rank=seed.rank,
        is_default=is_default,
        rpm=seed.rpm,
        tpm=seed.tpm,
        max_parallel_requests=seed.max_parallel_requests,
        budget_cents=seed.budget_cents,
    )
    plan.gateway_models.set(GatewayModel.objects.filter(name__in=seed.models))
    for interval, unit_amount in seed.prices:
        Price.objects.create(
            plan=plan,
            interval=interval,
            unit_amount=unit_amount,
            currency="usd",
            lookup_key=f"{seed.code}_{interval}",
        )
    plan_changed.send(sender=Plan, plan=plan, cause=Cause.system("seed_plans"))

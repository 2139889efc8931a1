"""Why may, or may not, this user call this model? The whole chain, link by link."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from accounts.models import User
from llmkeys import desired, gateway, switches
from llmkeys.litellm_client import Json, LiteLLMClient, Probe
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import PlanAtGateway, VirtualKey
from llmkeys.selectors import shown_state
from llmkeys.spec import money, spend_of
from plans.models import CurrentEntitlement, GatewayModel
from tesslate.lib.crypto import decrypt
from tesslate.lib.currencies import dollars


@dataclass(frozen=True, slots=True)
class Link:
    """One fact on the way. ``holds`` False stands in the way; None merely informs."""

    fact: str
    holds: bool | None = None


def explain_access(user: User, model_name: str) -> list[Link]:
    """Every link, also after one that does not hold: staff want to see all that is wrong."""
    return [
        *_account(user),
        *_plan(user, model_name),
        *_switches(user, model_name),
        *_key(user, model_name),
    ]


def is_allowed(links: list[Link]) -> bool:
    return all(link.holds is not False for link in links)


def _account(user: User) -> Iterator[Link]:
    if user.deleted_at is not None:
        yield Link(f"The account was closed on {user.deleted_at:%Y-%m-%d}.", False)
    elif not user.is_active:
        yield Link("The account is deactivated.", False)
    elif user.suspended_at is not None:
        reason = user.suspension_reason or "no reason given"
        yield Link(f"Suspended since {user.suspended_at:%Y-%m-%d %H:%M}: {reason}.", False)
    else:
        yield Link("The account is in good standing.", True)


def _plan(user: User, model_name: str) -> Iterator[Link]:
    entitlement = CurrentEntitlement.objects.filter(user=user).select_related("plan").first()
    if entitlement is None:
        yield Link("Nobody has worked out yet what the user may have.", False)
        return
    plan = entitlement.plan
    yield Link(
        f"Plan {plan.name}, from {entitlement.get_source_display().lower()}, "
        f"until {entitlement.period_end:%Y-%m-%d}."
    )
    for reason in entitlement.reasons:
        yield Link(f"… because {reason['text']}")
    model = GatewayModel.objects.filter(name=model_name).first()
    if model is None:
        yield Link(f"There is no model named {model_name}.", False)
        return
    if model.disabled_at is not None:
        yield Link(f"The model is disabled: {model.disabled_reason or 'no reason given'}.", False)
    included = plan.gateway_models.filter(pk=model.pk).exists()
    yield Link(f"The plan {'includes' if included else 'does not include'} the model.", included)


def _switches(user: User, model_name: str) -> Iterator[Link]:
    plan_id = CurrentEntitlement.objects.filter(user=user).values_list("plan_id", flat=True).first()
    for switch in switches.in_force():
        concerns = (
            switch.scope == "everyone"
            or switch.user_id == user.pk
            or (switch.plan_id is not None and switch.plan_id == plan_id)
            or (switch.gateway_model is not None and switch.gateway_model.name == model_name)
        )
        if concerns:
            yield Link(f"Kill switch ({switch}): {switch.reason}.", False)


def _key(user: User, model_name: str) -> Iterator[Link]:
    key = (
        VirtualKey.live.filter(user=user)
        .select_related("user__current_entitlement__plan")
        .order_by("-pk")
        .first()
    )
    if key is None:
        yield Link("There is no key.", False)
        return
    state = shown_state(key)
    yield Link(f"Key …{key.last_four} is {state}.", state not in ("pending", "blocked", "stuck"))
    if key.blocked_at is not None:
        yield Link(f"Blocked by staff: {key.blocked_reason}.", False)
    if key.last_error:
        yield Link(f"Last error: {key.last_error}")
    entitlement = desired.entitlement_of(key)
    if entitlement is not None:
        shared = PlanAtGateway.objects.filter(plan=entitlement.plan).first()
        models = ((shared.observed if shared else None) or {}).get("models", [])
        there = model_name in models
        words = "lists" if there else "does not list"
        yield Link(f"The gateway's record of the plan {words} the model.", there)
    yield from _at_gateway(key, model_name)


def _at_gateway(key: VirtualKey, model_name: str) -> Iterator[Link]:
    client = gateway.client()
    try:
        row = client.get_key(key.key_hash)
        if row is None:
            yield Link("The gateway does not know the key.", False)
            return
        yield from _money(client, key, row)
        probe = client.probe(decrypt(key.secret))
    except LiteLLMError as error:
        yield Link(f"The gateway cannot be asked: {error}.")
        return
    yield _probed(probe, model_name)


def _money(client: LiteLLMClient, key: VirtualKey, row: Json) -> Iterator[Link]:
    """What was spent in this window with all of the user's keys, those that are gone included; and
    this key's part, which alone the gateway knows (llmkeys.budgets)."""
    entitlement = desired.entitlement_of(key)
    if entitlement is None:
        return
    spent, live = Decimal(0), 0
    for each in VirtualKey.objects.filter(user=key.user_id, window=key.window):
        is_live = each.lifecycle != VirtualKey.Lifecycle.RETIRED
        seen = row if each.pk == key.pk else client.get_key(each.key_hash) if is_live else None
        spent += max(Decimal(0), (spend_of(seen) if seen else each.spend) - each.carried_spend)
        live += is_live
    budget = desired.budget_of(entitlement)
    keys = f" with {live} keys" if live > 1 else ""
    yield Link(f"Spent {dollars(spent)} of {dollars(budget)} in this window{keys}.", spent < budget)
    part, own = money(row.get("max_budget")), spend_of(row)
    if part is not None and part < budget:
        yield Link(f"This key's part: {dollars(own)} of {dollars(part)}.", own < part)


def _probed(probe: Probe, model_name: str) -> Link:
    seen = "Tried just now: "
    if probe.is_refused:
        return Link(f"{seen}the gateway refuses the key (status {probe.status}).", False)
    if model_name in probe.models:
        return Link(f"{seen}the key may call the model.", True)
    others = ", ".join(sorted(probe.models)) or "no model"
    return Link(f"{seen}the gateway lets the key call {others}, and not {model_name}.", False)

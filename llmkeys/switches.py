"""The kill switch: take a model, a plan, a user or everything out of use at once, say why and until
when, and prove that it worked.

Our own chat path refuses from the moment of the commit (llmkeys.credentials); the gateway follows
within a call or two, whatever the number of keys, since models hang on the plans.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import User
from llmkeys import gateway, marking, provisioning
from llmkeys.litellm_client import LiteLLMClient
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import KillSwitch, PlanAtGateway, VirtualKey
from plans.models import GatewayModel, Plan
from tesslate.lib import changes
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt

Scope = KillSwitch.Scope

# Keys that are tried for each plan before a switch counts as proven.
PROOF_SAMPLE = 5


@transaction.atomic
def pull(
    *,
    scope: str,
    target: GatewayModel | Plan | User | None,
    reason: str,
    cause: Cause,
    expires_at: datetime | None = None,
) -> KillSwitch:
    """Withdraw access. ``target`` is what the scope names, None for everyone."""
    switch = KillSwitch.objects.create(
        scope=scope,
        gateway_model=target if isinstance(target, GatewayModel) else None,
        plan=target if isinstance(target, Plan) else None,
        user=target if isinstance(target, User) else None,
        reason=reason,
        pulled_by_id=cause.actor_id,
        expires_at=expires_at,
    )
    record_act(action="switch.pulled", cause=cause, target=switch, user=switch.user, reason=reason)
    _mark(switch, cause)
    return switch


@transaction.atomic
def lift(*, switch: KillSwitch, cause: Cause) -> None:
    """Give access back, as far as nothing else withholds it."""
    lifted = KillSwitch.objects.filter(pk=switch.pk, lifted_at=None).update(
        lifted_at=timezone.now()
    )
    if lifted:
        record_act(action="switch.lifted", cause=cause, target=switch, user=switch.user)
        _mark(switch, cause)


def lift_expired() -> int:
    """Lift the switches whose time is over; how many."""
    expired = list(KillSwitch.objects.filter(lifted_at=None, expires_at__lte=timezone.now()))
    for switch in expired:
        lift(switch=switch, cause=Cause.clock("switch expired"))
    return len(expired)


def _mark(switch: KillSwitch, cause: Cause) -> None:
    if switch.user_id is not None:
        marking.mark_users([switch.user_id], cause=cause)
        changes.publish([switch.user_id])
        return
    plans = list(affected_plans(switch))
    provisioning.ensure_plans(plans)
    marking.mark_plans([plan.pk for plan in plans], cause=cause)
    changes.publish(kinds=[changes.PLANS])


def affected_plans(switch: KillSwitch) -> QuerySet[Plan]:
    if switch.scope == Scope.MODEL:
        return Plan.objects.filter(gateway_models=switch.gateway_model)
    if switch.scope == Scope.PLAN:
        return Plan.objects.filter(switches=switch)
    return Plan.objects.all()


# Proof


def prove_due() -> int:
    """Try to prove the switches in force that are not proven yet; how many were."""
    waiting = KillSwitch.objects.filter(lifted_at=None, proven_at=None)
    return sum(prove(switch) for switch in waiting)


def prove(switch: KillSwitch) -> bool:
    """Whether probes with keys that the switch concerns all find access gone; kept with it."""
    if not _has_reached_the_gateway(switch):
        return False
    keys = _sample(switch)
    client = gateway.client()
    try:
        refused = [key for key in keys if _is_refused(client, switch, key)]
    except LiteLLMError:
        return False
    if len(refused) < len(keys):
        return False
    now = timezone.now()
    seconds = (now - switch.pulled_at).total_seconds()
    KillSwitch.objects.filter(pk=switch.pk).update(
        proven_at=now,
        proof={"keys_probed": len(keys), "refused": len(refused), "after_seconds": seconds},
    )
    return True


def _has_reached_the_gateway(switch: KillSwitch) -> bool:
    if switch.user_id is not None:
        keys = VirtualKey.live.filter(user_id=switch.user_id)
        return all(key.is_in_step for key in keys)
    rows = PlanAtGateway.objects.filter(plan__in=affected_plans(switch))
    return all(row.is_in_step for row in rows)


def _sample(switch: KillSwitch) -> list[VirtualKey]:
    usable = VirtualKey.live.filter(observed__isnull=False).exclude(secret="")
    if switch.user_id is not None:
        return list(usable.filter(user_id=switch.user_id))
    found: list[VirtualKey] = []
    for plan in affected_plans(switch):
        of_plan = usable.filter(user__current_entitlement__plan=plan).order_by("-pk")
        found += of_plan[:PROOF_SAMPLE]
    return found


def _is_refused(client: LiteLLMClient, switch: KillSwitch, key: VirtualKey) -> bool:
    probe = client.probe(decrypt(key.secret))
    if switch.gateway_model is not None:
        return switch.gateway_model.name not in probe.models
    return not probe.models


def in_force(at: datetime | None = None) -> QuerySet[KillSwitch]:
    """The switches in force, newest first."""
    at = at or timezone.now()
    return KillSwitch.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=at), lifted_at=None
    ).select_related("gateway_model", "plan", "user", "pulled_by")

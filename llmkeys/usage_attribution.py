"""Whose call was it? As well as the key alone can tell.

The user is the key's. The plan is the one whose team the key was in when it was used, which the
log tells. Who pays for the seat is what the entitlement says at the time of the import; the chat
path knows better (chatproxy.usage), for the calls that went through it.
"""

from collections.abc import Sequence

from accounts.models import Membership
from llmkeys.models import PlanAtGateway, VirtualKey
from llmkeys.usage_books import Attribution
from llmkeys.usage_log import LoggedCall
from plans.models import CurrentEntitlement

Attributed = list[tuple[LoggedCall, Attribution]]


def by_key(calls: Sequence[LoggedCall]) -> Attributed:
    """Each call with whom its key belongs to; nobody for keys that are not ours."""
    keys = {
        key.key_hash: key
        for key in VirtualKey.objects.filter(
            key_hash__in={call.key_hash for call in calls}
        ).select_related("user__current_entitlement__plan")
    }
    plans = dict(
        PlanAtGateway.objects.filter(gateway_id__in={call.team_id for call in calls}).values_list(
            "gateway_id", "plan__code"
        )
    )
    seats = _seats(list(keys.values()))
    return [(call, _attribution(call, keys.get(call.key_hash), plans, seats)) for call in calls]


def _attribution(
    call: LoggedCall,
    key: VirtualKey | None,
    plans: dict[str, str],
    seats: dict[int, int],
) -> Attribution:
    plan_code = plans.get(call.team_id, "")
    if key is None:
        return Attribution(plan_code=plan_code)
    entitlement = _entitlement(key)
    if not plan_code and entitlement is not None:
        plan_code = entitlement.plan.code
    return Attribution(key.user_id, key.pk, seats.get(key.user_id), plan_code)


def _seats(keys: Sequence[VirtualKey]) -> dict[int, int]:
    """User id to the organization whose seat they have."""
    memberships = {
        entitlement.source_id or 0: key.user_id
        for key in keys
        if (entitlement := _entitlement(key)) is not None
        and entitlement.source == CurrentEntitlement.Source.ORGANIZATION
    }
    rows = Membership.objects.filter(pk__in=memberships).values_list("pk", "organization_id")
    return {memberships[pk]: organization_id for pk, organization_id in rows}


def _entitlement(key: VirtualKey) -> CurrentEntitlement | None:
    return getattr(key.user, "current_entitlement", None)

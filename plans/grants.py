"""Plans that staff give away, and take back."""

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import Membership, Organization, User
from plans.entitlements import refresh_entitlements
from plans.models import Plan, PlanGrant
from tesslate.lib.cause import Cause
from tesslate.lib.errors import InvalidRequest


@transaction.atomic
def grant_plan(
    *,
    plan: Plan,
    ends_at: datetime,
    reason: str,
    cause: Cause,
    user: User | None = None,
    organization: Organization | None = None,
) -> PlanGrant:
    """Give a user, or all members of an organization, a plan until ``ends_at``.

    Raises InvalidRequest for an end in the past, an archived plan, or not exactly one receiver.
    """
    now = timezone.now()
    if (user is None) == (organization is None):
        raise InvalidRequest("A grant is for one user or for one organization.")
    if ends_at <= now:
        raise InvalidRequest("The end lies in the past.", param="ends_at")
    if plan.archived_at is not None:
        raise InvalidRequest(f"{plan} is archived.", param="plan")
    grant = PlanGrant.objects.create(
        user=user,
        organization=organization,
        plan=plan,
        starts_at=now,
        ends_at=ends_at,
        reason=reason,
        granted_by_id=cause.actor_id,
    )
    record_act(
        action="plan.granted",
        cause=cause,
        target=grant,
        user=user,
        organization=organization,
        reason=reason,
        after={"plan": plan.code, "ends_at": ends_at.isoformat()},
    )
    refresh_entitlements(receivers(grant), cause=cause)
    return grant


@transaction.atomic
def revoke_grant(*, grant: PlanGrant, reason: str, cause: Cause) -> bool:
    """End a grant now. False when it had been revoked before."""
    grant = PlanGrant.objects.select_for_update(of=["self"]).get(pk=grant.pk)
    if grant.revoked_at is not None:
        return False
    grant.revoked_at = timezone.now()
    grant.save(update_fields=["revoked_at"])
    record_act(
        action="grant.revoked",
        cause=cause,
        target=grant,
        user=grant.user,
        organization=grant.organization,
        reason=reason,
    )
    refresh_entitlements(receivers(grant), cause=cause)
    return True


def receivers(grant: PlanGrant) -> list[int]:
    if grant.user_id is not None:
        return [grant.user_id]
    assert grant.organization_id is not None
    return list(
        Membership.objects.filter(organization_id=grant.organization_id).values_list(
            "user_id", flat=True
        )
    )

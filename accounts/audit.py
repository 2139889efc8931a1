"""Write the audit trail."""

from typing import Any

from django.db.models import Model

from accounts.models import AuditEntry, Organization, User
from tesslate.lib.cause import Cause


def record_act(
    *,
    action: str,
    cause: Cause,
    target: Model | None = None,
    user: User | int | None = None,
    organization: Organization | int | None = None,
    reason: str = "",
    before: Any = None,
    after: Any = None,
) -> AuditEntry:
    """Note what was done, in the caller's transaction: both stand or fall together.

    ``user`` and ``organization`` are whom it concerns, as rows or ids. ``before`` and ``after`` are
    JSON-serialisable and must hold no secret.
    """
    return AuditEntry.objects.create(
        action=action,
        cause_kind=cause.kind,
        cause_reference=cause.reference[:255],
        actor_id=cause.actor_id,
        user_id=user.pk if isinstance(user, User) else user,
        organization_id=organization.pk if isinstance(organization, Organization) else organization,
        target_type="" if target is None else target._meta.label_lower,
        target_id="" if target is None else str(target.pk),
        reason=reason,
        before=before,
        after=after,
    )

"""Who calls: from a credential to everything about its user that a chat request depends on."""

from dataclasses import dataclass
from datetime import datetime

from accounts.models import Membership, User
from chatproxy.errors import AccountSuspended
from llmkeys.credentials import Credential, credential_for
from plans.models import CurrentEntitlement
from plans.selectors import current_entitlement
from tesslate.lib.errors import ApiError, NotAuthenticated

# How long "you cannot chat right now" is believed: a key is ready a moment later.
REFUSAL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Caller:
    """A user with an entitlement and either a gateway credential or the reason for having none."""

    user_id: int
    name: str
    organization_id: int | None
    plan_id: int
    # Share of the plan's limits that applies now, percent.
    limit_percent: int
    period_end: datetime
    entitlement_version: int
    credential: Credential | None
    refusal: ApiError | None

    def lifetime(self) -> float | None:
        return None if self.refusal is None else REFUSAL_SECONDS


def load_caller(user_id: int) -> Caller:
    """Read a user anew. Raises NotAuthenticated when there is nobody (any more)."""
    user = User.objects.filter(pk=user_id).first()
    if user is None or not user.is_active or user.deleted_at is not None:
        raise NotAuthenticated
    entitlement = current_entitlement(user)
    credential, refusal = _credential(user)
    return Caller(
        user_id=user.pk,
        name=user.display_name,
        organization_id=_organization_id(entitlement),
        plan_id=entitlement.plan_id,
        limit_percent=entitlement.limit_percent,
        period_end=entitlement.period_end,
        entitlement_version=entitlement.version,
        credential=credential,
        refusal=refusal,
    )


def _credential(user: User) -> tuple[Credential | None, ApiError | None]:
    if not user.may_use_models:
        return None, AccountSuspended()
    try:
        return credential_for(user.pk), None
    except ApiError as refusal:  # not ready, or blocked
        return None, refusal


def _organization_id(entitlement: CurrentEntitlement) -> int | None:
    is_members = entitlement.source == CurrentEntitlement.Source.ORGANIZATION
    if not is_members or entitlement.source_id is None:
        return None
    membership = Membership.objects.filter(pk=entitlement.source_id)
    return membership.values_list("organization_id", flat=True).first()

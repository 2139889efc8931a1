"""Reads that views share. Strangers find nothing, as if it did not exist."""

from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import Invitation, Membership, Organization, User
from tesslate.lib.errors import NotFound, PermissionDenied


def memberships_of(user: User) -> QuerySet[Membership]:
    return user.memberships.select_related("organization").order_by("organization_id")


def membership_in(organization_id: int, user: User) -> Membership:
    """One's own membership, with the organization. Raises NotFound."""
    found = memberships_of(user).filter(organization_id=organization_id).first()
    if found is None:
        raise NotFound
    return found


def owned_organization(organization_id: int, user: User) -> Organization:
    """Raises NotFound for strangers and PermissionDenied for members who are no owners."""
    membership = membership_in(organization_id, user)
    if membership.role != Membership.Role.OWNER:
        raise PermissionDenied("Only an owner may do this.")
    return membership.organization


def members_of(organization: Organization) -> QuerySet[Membership]:
    return organization.memberships.select_related("user").order_by("joined_at", "id")


def open_invitations(organization: Organization) -> QuerySet[Invitation]:
    """Offers that can still be accepted or withdrawn; expired ones are shown as such."""
    return organization.invitations.filter(accepted_at=None, revoked_at=None)


def is_expired(invitation: Invitation) -> bool:
    return invitation.expires_at <= timezone.now()

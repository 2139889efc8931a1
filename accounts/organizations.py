"""What owners and members do with organizations.

The organization's row is the lock under which its memberships change. Whoever joins or leaves may
move seats, so accounts_changed always names all present members and whoever has just left.
"""

from collections.abc import Iterable

from django.db import transaction

from accounts.audit import record_act
from accounts.errors import LastOwner, TooManyOrganizations
from accounts.models import Membership, Organization, User
from accounts.signals import accounts_changed
from tesslate.lib.cause import Cause
from tesslate.lib.errors import NotFound, PermissionDenied
from tesslate.lib.text import one_line

MOST_OWNED = 20


@transaction.atomic
def create_organization(*, owner: User, name: str) -> Organization:
    """Raises TooManyOrganizations."""
    name = one_line(name)
    User.objects.select_for_update().get(pk=owner.pk)
    if owner.memberships.filter(role=Membership.Role.OWNER).count() >= MOST_OWNED:
        raise TooManyOrganizations
    organization = Organization.objects.create(name=name)
    Membership.objects.create(organization=organization, user=owner, role=Membership.Role.OWNER)
    _note(organization, "created", Cause.user(owner.pk), user=owner, after={"name": name})
    return organization


@transaction.atomic
def rename_organization(*, organization: Organization, name: str, cause: Cause) -> None:
    name = one_line(name)
    organization = locked(organization.pk)
    before = organization.name
    organization.name = name
    organization.save(update_fields=["name"])
    record_act(
        action="organization.renamed",
        cause=cause,
        target=organization,
        organization=organization,
        before={"name": before},
        after={"name": name},
    )


@transaction.atomic
def add_member(*, organization: Organization, user: User, role: str, cause: Cause) -> Membership:
    """Make ``user`` a member. One who is already stays as they are."""
    organization = locked(organization.pk)
    membership, is_new = Membership.objects.get_or_create(
        organization=organization, user=user, defaults={"role": role}
    )
    if is_new:
        _note(organization, "member_joined", cause, user=user, after={"role": role})
    return membership


@transaction.atomic
def remove_member(*, organization: Organization, user_id: int, cause: Cause) -> None:
    """End a membership, one's own or another's. Raises NotFound or LastOwner."""
    organization = locked(organization.pk)
    membership = _membership(organization, user_id)
    if membership.role == Membership.Role.OWNER:
        _refuse_last_owner(membership)
    membership.delete()
    _note(
        organization,
        "member_left" if cause.actor_id == user_id else "member_removed",
        cause,
        user=membership.user,
        before={"role": membership.role},
    )


@transaction.atomic
def change_role(*, organization: Organization, user_id: int, role: str, cause: Cause) -> Membership:
    """Raises NotFound or LastOwner."""
    organization = locked(organization.pk)
    membership = _membership(organization, user_id)
    before = membership.role
    if before == role:
        return membership
    if before == Membership.Role.OWNER:
        _refuse_last_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    _note(
        organization,
        "role_changed",
        cause,
        user=membership.user,
        before={"role": before},
        after={"role": role},
    )
    return membership


@transaction.atomic
def transfer_ownership(*, organization: Organization, owner: User, to_user_id: int) -> None:
    """Make another member the owner in one's own stead. Raises NotFound or PermissionDenied."""
    organization = locked(organization.pk)
    if _membership(organization, owner.pk).role != Membership.Role.OWNER:
        raise PermissionDenied
    cause = Cause.user(owner.pk)
    change_role(
        organization=organization, user_id=to_user_id, role=Membership.Role.OWNER, cause=cause
    )
    if to_user_id != owner.pk:
        change_role(
            organization=organization, user_id=owner.pk, role=Membership.Role.MEMBER, cause=cause
        )


def leave_all(*, user: User, cause: Cause) -> list[int]:
    """End all memberships of a user; returns the organizations' ids. Raises LastOwner.

    An organization without any other member is left without an owner: nobody is there to miss one.
    """
    left = []
    for membership in user.memberships.select_related("organization").order_by("organization_id"):
        organization = locked(membership.organization_id)
        if organization.memberships.exclude(user=user).exists():
            remove_member(organization=organization, user_id=user.pk, cause=cause)
        else:
            membership.delete()
        left.append(organization.pk)
    return left


def locked(organization_id: int) -> Organization:
    return Organization.objects.select_for_update().get(pk=organization_id)


def _membership(organization: Organization, user_id: int) -> Membership:
    found = organization.memberships.select_related("user").filter(user_id=user_id).first()
    if found is None:
        raise NotFound("This person is not a member.")
    return found


def _refuse_last_owner(membership: Membership) -> None:
    owners = Membership.objects.filter(
        organization_id=membership.organization_id, role=Membership.Role.OWNER
    )
    if not owners.exclude(pk=membership.pk).exists():
        raise LastOwner


def _note(
    organization: Organization,
    what: str,
    cause: Cause,
    *,
    user: User,
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> None:
    record_act(
        action=f"organization.{what}",
        cause=cause,
        target=organization,
        organization=organization,
        user=user,
        before=before,
        after=after,
    )
    _tell({user.pk, *organization.memberships.values_list("user_id", flat=True)}, cause)


def _tell(user_ids: Iterable[int], cause: Cause) -> None:
    accounts_changed.send(Organization, user_ids=sorted(user_ids), cause=cause)

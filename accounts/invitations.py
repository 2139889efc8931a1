"""Invitations to an organization: offered by e-mail, accepted once, withdrawn or left to expire."""

import logging
import secrets
from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils import timezone

from accounts.audit import record_act
from accounts.errors import (
    AlreadyMember,
    InvitationExpired,
    InvitationForSomebodyElse,
    InvitationNotFound,
    TooManyInvitations,
)
from accounts.models import Invitation, Membership, Organization, User
from accounts.organizations import add_member, locked
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import sha256_hex
from tesslate.lib.text import one_line

logger = logging.getLogger(__name__)

VALID_FOR = timedelta(days=7)
MOST_OPEN = 200
# How long owners still see that an offer was not taken up.
KEPT_FOR = timedelta(days=30)


def invite(*, organization: Organization, email: str, role: str, inviter: User) -> Invitation:
    """Offer membership to an address and send the link there; an earlier offer ends.

    The mail goes out after the commit. A mail server that refuses leaves ``sent_at`` empty.
    Raises AlreadyMember or TooManyInvitations.
    """
    invitation, token = _offer(organization, email.strip().lower(), role, inviter)
    _send(invitation, token)
    return invitation


@transaction.atomic
def _offer(
    organization: Organization, email: str, role: str, inviter: User
) -> tuple[Invitation, str]:
    organization = locked(organization.pk)
    if organization.memberships.filter(user__email=email).exists():
        raise AlreadyMember
    now = timezone.now()
    open_ones = organization.invitations.filter(accepted_at=None, revoked_at=None)
    open_ones.filter(email=email).update(revoked_at=now)
    if open_ones.filter(expires_at__gt=now).count() >= MOST_OPEN:
        raise TooManyInvitations
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        organization=organization,
        email=email,
        role=role,
        token_hash=sha256_hex(token),
        invited_by=inviter,
        expires_at=now + VALID_FOR,
    )
    record_act(
        action="invitation.sent",
        cause=Cause.user(inviter.pk),
        target=invitation,
        organization=organization,
        after={"role": role},
    )
    return invitation, token


def _send(invitation: Invitation, token: str) -> None:
    context = {
        "organization": invitation.organization.name,
        "inviter": invitation.invited_by.get_full_name() if invitation.invited_by else "",
        "days": VALID_FOR.days,
        # Behind the #, so that it appears in no server's log.
        "link": f"{settings.PUBLIC_URL}/account#invitation={token}",
    }
    try:
        send_mail(
            f"Join {one_line(invitation.organization.name)} on Tesslate",
            render_to_string("accounts/invitation.txt", context),
            None,
            [invitation.email],
        )
    except (SMTPException, OSError) as error:
        logger.warning("Invitation %s was not sent: %s", invitation.pk, error)
        return
    invitation.sent_at = timezone.now()
    invitation.save(update_fields=["sent_at"])


@transaction.atomic
def accept(*, token: str, user: User) -> Membership:
    """Join by a link from a mail to one's own address.

    Raises InvitationNotFound (unknown, withdrawn, used), InvitationExpired, or
    InvitationForSomebodyElse.
    """
    found = Invitation.objects.filter(token_hash=sha256_hex(token)).first()
    if found is None:
        raise InvitationNotFound
    organization = locked(found.organization_id)
    invitation = Invitation.objects.select_for_update().get(pk=found.pk)
    if invitation.accepted_at is not None or invitation.revoked_at is not None:
        raise InvitationNotFound
    if invitation.expires_at <= timezone.now():
        raise InvitationExpired
    if invitation.email != user.email:
        raise InvitationForSomebodyElse
    invitation.accepted_at = timezone.now()
    invitation.accepted_by = user
    invitation.save(update_fields=["accepted_at", "accepted_by"])
    cause = Cause.user(user.pk, f"invitation {invitation.pk}")
    return add_member(organization=organization, user=user, role=invitation.role, cause=cause)


@transaction.atomic
def withdraw(*, organization: Organization, invitation_id: int, cause: Cause) -> None:
    """Raises InvitationNotFound when there is no open one."""
    organization = locked(organization.pk)
    invitation = organization.invitations.filter(
        pk=invitation_id, accepted_at=None, revoked_at=None
    ).first()
    if invitation is None:
        raise InvitationNotFound
    invitation.revoked_at = timezone.now()
    invitation.save(update_fields=["revoked_at"])
    record_act(
        action="invitation.withdrawn", cause=cause, target=invitation, organization=organization
    )


def forget_declined() -> int:
    """Delete offers that nobody took up, KEPT_FOR after they ended; how many.

    They hold the address of somebody who may never have had an account to close.
    """
    before = timezone.now() - KEPT_FOR
    ended = Q(revoked_at__lt=before) | Q(expires_at__lt=before)
    gone, _ = Invitation.objects.filter(ended, accepted_at=None).delete()
    return gone

"""Turn what Firebase vouches for into a user of ours."""

from datetime import UTC, datetime

from django.db import IntegrityError, transaction

from accounts.audit import record_act
from accounts.errors import (
    AccountDeleted,
    AccountInactive,
    EmailInUse,
    EmailNotVerified,
    EmailRequired,
)
from accounts.firebase import Identity
from accounts.models import User
from accounts.signals import accounts_changed
from tesslate.lib.cause import Cause


def user_for_identity(*, identity: Identity) -> User:
    """The user behind a verified identity, made on first sight; one query when nothing changed.

    An account without a Firebase user is taken over only by a verified address, and a staff
    account never: otherwise whoever signs up at Firebase with somebody's address would own it.
    Name and address follow Firebase, the address only when no other account has it.

    Raises a PermissionDenied with a code of its own (accounts.errors): e-mail missing, unverified
    or in use; account switched off or deleted.
    """
    user = User.objects.filter(firebase_uid=identity.uid).first()
    if user is None:
        user = _link_or_create(identity)
    _refuse_closed(user)
    if _is_news(user, identity):
        _follow(user, identity)
    return user


def _link_or_create(identity: Identity) -> User:
    if not identity.email:
        raise EmailRequired
    try:
        with transaction.atomic():
            holder = User.objects.select_for_update().filter(email=identity.email).first()
            return _create(identity) if holder is None else _link(holder, identity)
    except IntegrityError:
        # Another request of the same person was faster, or somebody took the address meanwhile.
        user = User.objects.filter(firebase_uid=identity.uid).first()
        if user is None:
            raise EmailInUse from None
        return user


def _create(identity: Identity) -> User:
    user = User.objects.create_user(
        identity.email,
        firebase_uid=identity.uid,
        display_name=identity.name,
        profile_as_of=_moment(identity.issued_at),
    )
    cause = Cause.user(user.pk, "sign-up")
    record_act(action="user.created", cause=cause, target=user, user=user)
    accounts_changed.send(User, user_ids=[user.pk], cause=cause)
    return user


def _link(holder: User, identity: Identity) -> User:
    if holder.firebase_uid == identity.uid:
        return holder
    if holder.firebase_uid is not None or holder.is_staff:
        raise EmailInUse
    if not identity.email_verified:
        raise EmailNotVerified
    holder.firebase_uid = identity.uid
    holder.save(update_fields=["firebase_uid"])
    record_act(
        action="user.linked", cause=Cause.user(holder.pk, "sign-in"), target=holder, user=holder
    )
    return holder


def _refuse_closed(user: User) -> None:
    if user.deleted_at is not None:
        raise AccountDeleted
    if not user.is_active:
        raise AccountInactive


def _is_news(user: User, identity: Identity) -> bool:
    """Does the token know something that differs, and is it younger than what we know?

    Tokens live for an hour, so one from before a change may arrive after one from behind it.
    """
    differs = (identity.name and identity.name != user.display_name) or (
        identity.email and identity.email != user.email
    )
    if not differs:
        return False
    return user.profile_as_of is None or _moment(identity.issued_at) > user.profile_as_of


def _follow(user: User, identity: Identity) -> None:
    before = {"email": user.email, "display_name": user.display_name}
    as_of = _moment(identity.issued_at)
    user.display_name = identity.name or user.display_name
    user.profile_as_of = as_of
    with transaction.atomic():
        # Locked: an account that was closed since it was read must not be given its name again.
        _refuse_closed(User.objects.select_for_update().get(pk=user.pk))
        if identity.email and identity.email != user.email:
            _change_email(user, identity.email)
        user.save(update_fields=["display_name", "profile_as_of"])
        after = {"email": user.email, "display_name": user.display_name}
        if after != before:
            record_act(
                action="user.profile_changed",
                cause=Cause.user(user.pk, "sign-in"),
                target=user,
                user=user,
                before=before,
                after=after,
            )


def _change_email(user: User, email: str) -> None:
    """Take the new address unless it is another account's: then keep the one we have."""
    try:
        with transaction.atomic():
            User.objects.filter(pk=user.pk).update(email=email)
    except IntegrityError:
        return
    user.email = email


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

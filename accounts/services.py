"""What can be done to an account. Each act leaves an audit entry and tells the apps above, in the
same transaction."""

from django.db import transaction
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import User
from accounts.organizations import leave_all
from accounts.personal_data import address_of_closed, erase_traces
from accounts.signals import accounts_changed
from accounts.signin import user_for_identity
from tesslate.lib.cause import Cause

__all__ = [
    "change_suspension_reason",
    "delete_account",
    "reinstate_user",
    "sign_out_everywhere",
    "suspend_user",
    "user_for_identity",
]


@transaction.atomic
def suspend_user(*, user_id: int, reason: str, cause: Cause) -> bool:
    """Withdraw access to models; signing in goes on working. False when it was so already."""
    user = User.objects.select_for_update().get(pk=user_id)
    if user.suspended_at is not None or user.deleted_at is not None:
        return False
    user.suspended_at = timezone.now()
    user.suspension_reason = reason[:500]
    user.save(update_fields=["suspended_at", "suspension_reason"])
    record_act(action="user.suspended", cause=cause, target=user, user=user, reason=reason)
    accounts_changed.send(User, user_ids=[user.pk], cause=cause)
    return True


@transaction.atomic
def change_suspension_reason(*, user_id: int, reason: str, cause: Cause) -> bool:
    """Keep a user suspended, now for this reason. False when nobody is suspended any more."""
    user = User.objects.select_for_update().get(pk=user_id)
    if user.suspended_at is None or user.deleted_at is not None:
        return False
    before = {"suspension_reason": user.suspension_reason}
    user.suspension_reason = reason[:500]
    user.save(update_fields=["suspension_reason"])
    record_act(
        action="user.suspension_reason_changed",
        cause=cause,
        target=user,
        user=user,
        reason=reason,
        before=before,
    )
    return True


@transaction.atomic
def reinstate_user(*, user_id: int, reason: str, cause: Cause) -> bool:
    """Give a suspended user access to models again. False when there was nothing to undo."""
    user = User.objects.select_for_update().get(pk=user_id)
    if user.suspended_at is None or user.deleted_at is not None:
        return False
    before = {"suspension_reason": user.suspension_reason}
    user.suspended_at = None
    user.suspension_reason = ""
    user.save(update_fields=["suspended_at", "suspension_reason"])
    record_act(
        action="user.reinstated", cause=cause, target=user, user=user, reason=reason, before=before
    )
    accounts_changed.send(User, user_ids=[user.pk], cause=cause)
    return True


@transaction.atomic
def sign_out_everywhere(*, user_id: int, cause: Cause) -> None:
    """End all cookie sessions: a session is bound to the password field, which gets a new value.

    For customers only: theirs is unusable before and after.
    """
    user = User.objects.select_for_update().get(pk=user_id, is_staff=False)
    user.set_unusable_password()
    user.save(update_fields=["password"])
    record_act(action="user.signed_out_everywhere", cause=cause, target=user, user=user)


@transaction.atomic
def delete_account(*, user_id: int, cause: Cause, reason: str = "") -> bool:
    """Close an account and erase who it belonged to. False when that was done before.

    The row stays, since the ledger and the audit trail point at it, and keeps the Firebase uid (a
    pseudonym): a token that is still valid must not open a fresh account. Whoever returns does so
    with a new Firebase user. What other apps, Stripe and the gateway hold goes by the signal's
    receivers.
    Raises LastOwner while others depend on them as the only owner of an organization.
    """
    user = User.objects.select_for_update().get(pk=user_id)
    if user.deleted_at is not None:
        return False
    organization_ids = leave_all(user=user, cause=cause)
    user.api_tokens.filter(revoked_at=None).update(revoked_at=timezone.now())
    record_act(
        action="user.deleted",
        cause=cause,
        target=user,
        user=user,
        reason=reason,
        before={"organizations": organization_ids},
    )
    # After the last entry: its reason may name them as well.
    erase_traces(user, organization_ids=organization_ids)
    user.email = address_of_closed(user)
    user.display_name = ""
    user.suspension_reason = ""
    user.deleted_at = timezone.now()
    user.is_active = user.is_staff = user.is_superuser = False
    user.set_unusable_password()
    user.save()
    accounts_changed.send(User, user_ids=[user.pk], cause=cause)
    return True

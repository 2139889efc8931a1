"""What people decide about keys: make, block, unblock, retire, reset, look again. These write rows;
the reconciler does the rest. Rotation has a module of its own (llmkeys.rotation)."""

from collections.abc import Collection

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import User
from llmkeys import marking, provisioning
from llmkeys.errors import TooManyKeys
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement
from tesslate.lib import changes
from tesslate.lib.cause import Cause
from tesslate.lib.errors import Conflict


def lock_user(user_id: int) -> User:
    """The lock under which the set of a user's keys changes. Taken before any key's."""
    return User.objects.select_for_update(no_key=True).get(pk=user_id)


@transaction.atomic
def create_key(*, user: User, label: str = provisioning.DEFAULT_LABEL, cause: Cause) -> VirtualKey:
    """A further key for the user, as far as the plan allows; the first where there is none.

    Raises TooManyKeys, and Conflict for a label in use or a closed account.
    """
    user = lock_user(user.pk)
    if user.deleted_at is not None:
        raise Conflict("The account is closed.")
    active = VirtualKey.objects.filter(user=user, lifecycle=VirtualKey.Lifecycle.ACTIVE)
    if active.filter(label=label).exists():
        raise Conflict(f"There is a key labelled {label!r} already.", param="label")
    entitlement = CurrentEntitlement.objects.filter(user=user).select_related("plan").first()
    allowed = entitlement.plan.max_keys if entitlement else 1
    if active.count() >= allowed:
        raise TooManyKeys(f"Your plan allows {allowed} key{'s' if allowed > 1 else ''}.")
    key = provisioning.new_key(user_id=user.pk, label=label, cause=cause)
    key.save()
    record_act(action="key.created", cause=cause, target=key, user=user, after={"label": label})
    marking.mark_keys(active, cause=cause)
    return key


@transaction.atomic
def block_key(*, key: VirtualKey, reason: str, cause: Cause) -> None:
    """Take the key out of use until it is unblocked, whatever the plan says."""
    VirtualKey.objects.filter(pk=key.pk, blocked_at=None).update(
        blocked_at=timezone.now(), blocked_reason=reason[:500]
    )
    record_act(action="key.blocked", cause=cause, target=key, user=key.user, reason=reason)
    marking.mark_keys(VirtualKey.objects.filter(pk=key.pk), cause=cause)
    changes.publish([key.user_id])


@transaction.atomic
def unblock_key(*, key: VirtualKey, cause: Cause) -> None:
    """Put the same key back into use, as far as the plan and the account allow."""
    VirtualKey.objects.filter(pk=key.pk).update(blocked_at=None, blocked_reason="")
    record_act(action="key.unblocked", cause=cause, target=key, user=key.user)
    marking.mark_keys(VirtualKey.objects.filter(pk=key.pk), cause=cause)
    changes.publish([key.user_id])


@transaction.atomic
def retire_key(*, key: VirtualKey, cause: Cause, reason: str = "") -> None:
    """Have the gateway forget the key, at once and for good. The row stays."""
    lock_user(key.user_id)
    _retire(VirtualKey.objects.filter(pk=key.pk), cause=cause)
    record_act(action="key.retired", cause=cause, target=key, user=key.user, reason=reason)
    siblings = VirtualKey.live.filter(user_id=key.user_id).exclude(pk=key.pk)
    marking.mark_keys(siblings, cause=cause)
    changes.publish([key.user_id])


def retire_all(*, user_ids: Collection[int], cause: Cause) -> None:
    """Retire every key of closed accounts, and forget what people called them."""
    keys = VirtualKey.objects.filter(user_id__in=user_ids)
    # The order in which everybody locks keys.
    list(keys.order_by("pk").select_for_update(no_key=True).values_list("pk"))
    _retire(VirtualKey.live.filter(user_id__in=user_ids), cause=cause)
    keys.update(label="", blocked_reason="")
    changes.publish(user_ids)


def _retire(keys: QuerySet[VirtualKey], *, cause: Cause) -> None:
    marking.mark_keys(keys, cause=cause, lifecycle=VirtualKey.Lifecycle.RETIRED, retire_at=None)


@transaction.atomic
def reset_spend(*, user: User, reason: str, cause: Cause) -> None:
    """Start the present budget window afresh, once, for all keys of the user."""
    keys = VirtualKey.live.filter(user=user)
    record_act(action="key.spend_reset", cause=cause, user=user, reason=reason)
    marking.mark_keys(keys, cause=cause, spend_resets=F("spend_resets") + 1)


@transaction.atomic
def heal_key(*, user_id: int, cause: Cause) -> None:
    """Read the user's keys back from the gateway and put right what differs. Cheap, and repeating
    it does no harm: for staff, and for the chat path when the gateway refuses a key that should
    work."""
    keys = VirtualKey.objects.filter(user_id=user_id, removed_at=None)
    marking.mark_keys(keys, cause=cause, in_doubt=True)
    provisioning.ensure_first_keys([user_id], cause=cause)

"""Give a user a new key in place of an old one.

LiteLLM's own rotation is an enterprise feature, so ours is: make a new key, let both work for the
overlap, then retire the old one. The user's budget is split between the two meanwhile
(llmkeys.budgets), and what was spent on the old key counts on the new one.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import User
from llmkeys import marking, provisioning
from llmkeys.errors import KeyNotReady, NothingToUndo
from llmkeys.models import VirtualKey
from llmkeys.services import lock_user, retire_key
from tesslate.lib import changes
from tesslate.lib.cause import Cause
from tesslate.lib.errors import Conflict

Lifecycle = VirtualKey.Lifecycle


def default_overlap() -> timedelta:
    return timedelta(hours=settings.KEY_ROTATION_OVERLAP_HOURS)


@transaction.atomic
def rotate_key(
    *, key: VirtualKey, cause: Cause, overlap: timedelta | None = None, reason: str = ""
) -> VirtualKey:
    """Replace an active key; returns its successor, which is on its way to the gateway.

    The old key works for ``overlap`` more (the setting's length by default; zero takes it away at
    once). A key that was itself still being replaced by this one goes now: never more than two of
    a kind are alive. A blocked key's successor is blocked. Raises Conflict for any other key.
    """
    overlap = default_overlap() if overlap is None else overlap
    lock_user(key.user_id)
    key = VirtualKey.objects.select_related("user").get(pk=key.pk)
    if key.lifecycle != Lifecycle.ACTIVE:
        raise Conflict("Only an active key can be rotated.")
    now = timezone.now()
    replaced = VirtualKey.objects.filter(replaced_by=key, lifecycle=Lifecycle.RETIRING)
    marking.mark_keys(replaced, cause=cause, lifecycle=Lifecycle.RETIRED)
    end: dict[str, Any] = {"lifecycle": Lifecycle.RETIRING, "retire_at": now + overlap}
    if overlap <= timedelta(0):
        end = {"lifecycle": Lifecycle.RETIRED, "retire_at": None}
    old = VirtualKey.objects.filter(pk=key.pk)
    old.update(**end)
    new = _successor(key, cause)
    new.save()
    # Together, so that one worker takes both and lowers the old before it raises the new.
    marking.mark_keys(VirtualKey.live.filter(user_id=key.user_id) | old, cause=cause)
    record_act(
        action="key.rotated",
        cause=cause,
        target=key,
        user=key.user,
        reason=reason,
        after={"successor": new.pk, "overlap_seconds": int(overlap.total_seconds())},
    )
    changes.publish([key.user_id])
    return new


@transaction.atomic
def revoke_key(*, key: VirtualKey, cause: Cause, reason: str) -> VirtualKey | None:
    """The key has leaked: it stops working at once, and a probe proves it.

    Returns the key in its place: a new one, or of a key in its overlap the successor that it has
    already (None where that one is gone as well). Raises Conflict for a key that is gone.
    """
    lock_user(key.user_id)
    key = VirtualKey.objects.select_related("user").get(pk=key.pk)
    if key.lifecycle == Lifecycle.RETIRING:
        retire_key(key=key, cause=cause, reason=reason)
        return VirtualKey.live.filter(replaces=key).order_by("-pk").first()
    return rotate_key(key=key, cause=cause, overlap=timedelta(0), reason=reason)


def rotate_own_key(*, user: User, key_id: int | None = None) -> VirtualKey:
    """The user's wish. Raises KeyNotReady where there is no key yet."""
    keys = VirtualKey.objects.filter(user=user, lifecycle=Lifecycle.ACTIVE)
    key = (keys if key_id is None else keys.filter(pk=key_id)).order_by("pk").first()
    if key is None:
        raise KeyNotReady(retry_after=1)
    return rotate_key(key=key, cause=Cause.user(user.pk, "rotation"))


@transaction.atomic
def undo_rotation(*, key: VirtualKey, cause: Cause) -> VirtualKey:
    """Within the overlap: give ``key`` up and go back to the one that it replaced.

    What was spent on the new key meanwhile stays spent. Raises NothingToUndo.
    """
    lock_user(key.user_id)
    key = VirtualKey.objects.select_related("user", "replaces").get(pk=key.pk)
    old = key.replaces
    if key.lifecycle != Lifecycle.ACTIVE or old is None or old.lifecycle != Lifecycle.RETIRING:
        raise NothingToUndo
    marking.mark_keys(
        VirtualKey.objects.filter(pk=key.pk), cause=cause, lifecycle=Lifecycle.RETIRED
    )
    marking.mark_keys(
        VirtualKey.objects.filter(pk=old.pk),
        cause=cause,
        lifecycle=Lifecycle.ACTIVE,
        retire_at=None,
        blocked_at=key.blocked_at,
        blocked_reason=key.blocked_reason,
    )
    record_act(action="key.rotation_undone", cause=cause, target=key, user=key.user)
    changes.publish([key.user_id])
    return VirtualKey.objects.get(pk=old.pk)


def _successor(key: VirtualKey, cause: Cause) -> VirtualKey:
    new = provisioning.new_key(user_id=key.user_id, label=key.label, cause=cause)
    new.replaces = key
    new.blocked_at, new.blocked_reason = key.blocked_at, key.blocked_reason
    return new

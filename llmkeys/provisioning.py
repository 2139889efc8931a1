"""New rows for keys, and for what plans share. The key's value is made and stored here, before the
gateway hears of it, so that a lost answer can be retried with the same value."""

import secrets
from collections.abc import Collection, Iterable
from typing import Any

from django.conf import settings

from llmkeys import marking
from llmkeys.desired import plan_key_fields
from llmkeys.models import PlanAtGateway, VirtualKey
from plans.models import Plan
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import encrypt, sha256_hex
from tesslate.lib.sql import fetch

DEFAULT_LABEL = "default"


def new_key(*, user_id: int, label: str, cause: Cause) -> VirtualKey:
    """An unsaved key with a value of its own, in the budget window that the user is in."""
    return new_keys([user_id], label=label, cause=cause)[0]


_FURTHEST = """
    SELECT user_id, max(window_start), max(spend_resets) FROM llmkeys_virtualkey
    WHERE user_id = ANY(%s) GROUP BY user_id
"""


def new_keys(user_ids: Collection[int], *, label: str, cause: Cause) -> list[VirtualKey]:
    """An unsaved key for each of these users, as ``new_key`` makes it.

    The window goes on from the furthest that any key of the user was in, one that is long gone
    included: whoever gives up a key and takes another must not be given a budget as well.
    """
    furthest = {
        user_id: {"window_start": start, "spend_resets": resets}
        for user_id, start, resets in fetch(_FURTHEST, [list(user_ids)])
    }
    return [_new_key(pk, label, cause, **furthest.get(pk, {})) for pk in user_ids]


def _new_key(user_id: int, label: str, cause: Cause, **window: Any) -> VirtualKey:
    value = f"sk-{secrets.token_hex(24)}"
    return VirtualKey(
        user_id=user_id,
        label=label,
        alias=f"{settings.LITELLM_KEY_PREFIX}-u{user_id}-{secrets.token_hex(5)}",
        key_hash=sha256_hex(value),
        secret=encrypt(value),
        last_four=value[-4:],
        cause_kind=cause.kind,
        cause_reference=cause.reference[:255],
        cause_actor_id=cause.actor_id,
        **window,
    )


_KEYLESS = """
    SELECT id FROM accounts_user AS person
    WHERE id = ANY(%s) AND deleted_at IS NULL AND is_active AND NOT EXISTS (
        SELECT FROM llmkeys_virtualkey WHERE user_id = person.id AND lifecycle <> 'retired'
    )
"""

_BY_HASH = "SELECT id FROM llmkeys_virtualkey WHERE key_hash = ANY(%s)"


def ensure_first_keys(user_ids: Collection[int], *, cause: Cause) -> list[int]:
    """Give a key to each of these users who should have one and has none; the new keys' ids.

    Closed accounts get none, whatever arrives late about them.
    """
    if not user_ids:
        return []
    keyless = [pk for (pk,) in fetch(_KEYLESS, [list(user_ids)])]
    if not keyless:
        return []
    made = new_keys(keyless, label=DEFAULT_LABEL, cause=cause)
    # A key that another transaction makes at the same moment is as good as ours.
    VirtualKey.objects.bulk_create(made, ignore_conflicts=True, batch_size=500)
    ids = [pk for (pk,) in fetch(_BY_HASH, [[key.key_hash for key in made]])]
    if ids:
        marking.wake(ids)
    return ids


def ensure_plans(plans: Iterable[Plan]) -> None:
    """Have a row for what each plan's keys share."""
    PlanAtGateway.objects.bulk_create(
        [
            PlanAtGateway(
                plan=plan,
                gateway_id=f"{settings.LITELLM_KEY_PREFIX}-{plan.code}",
                key_fields=plan_key_fields(plan),
            )
            for plan in plans
        ],
        ignore_conflicts=True,
    )

"""What pages and the API show of keys. Never a secret."""

from typing import Any

from accounts.models import User
from llmkeys.credentials import credential_for
from llmkeys.models import VirtualKey
from tesslate.lib.errors import ApiError


def key_state(user: User) -> dict[str, Any]:
    """Where the user's access stands, for /api/me: ``state`` is one of ready, updating, pending,
    blocked, none."""
    key = VirtualKey.live.filter(user=user).order_by("-pk").first()
    if key is None:
        return {"state": "none", "last_four": None, "in_step": True}
    try:
        credential_for(user.pk)
    except ApiError as error:
        state = "pending" if error.status_code == 409 else "blocked"
    else:
        state = "ready" if key.is_in_step else "updating"
    return {"state": state, "last_four": key.last_four, "in_step": key.is_in_step}


def own_keys(user: User) -> list[VirtualKey]:
    """The user's keys that still work or are about to, newest first."""
    return list(VirtualKey.live.filter(user=user).order_by("-pk"))


def shown_state(key: VirtualKey) -> str:
    """One word for staff and users: what state the key is in."""
    if key.lifecycle == VirtualKey.Lifecycle.RETIRED:
        return "removed" if key.removed_at else "being removed"
    if key.parked_at is not None:
        return "stuck"
    if key.observed is None:
        return "pending"
    if key.blocked_at is not None or key.observed_value.get("blocked"):
        return "blocked"
    if not key.is_in_step:
        return "updating"
    return "retiring" if key.lifecycle == VirtualKey.Lifecycle.RETIRING else "ready"

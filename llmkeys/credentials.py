"""The key that the chat path calls the gateway with."""

from dataclasses import dataclass, field

from django.db.models import Q
from django.utils import timezone

from llmkeys.errors import KeyBlocked, KeyNotReady, ModelsWithdrawn
from llmkeys.models import KillSwitch, VirtualKey
from tesslate.lib.crypto import decrypt


@dataclass(frozen=True, slots=True)
class Credential:
    """A usable key. ``secret`` goes into the gateway's Authorization header and nowhere else."""

    key_id: int
    secret: str = field(repr=False)
    key_hash: str
    state: str


def credential_for(user_id: int) -> Credential:
    """The newest key of the user that the gateway is known to hold.

    Two queries, no call to the gateway. Raises KeyNotReady (409, come back in a second) while the
    first key is on its way, KeyBlocked and ModelsWithdrawn (403) when access was taken away; these
    hold at once here, whatever the gateway still believes.
    """
    keys = list(
        VirtualKey.live.filter(user_id=user_id, observed__isnull=False)
        .select_related("user")
        .defer("desired", "observed")
        .order_by("-pk")
    )
    if not keys:
        raise KeyNotReady(retry_after=1)
    _refuse_where_switched_off(user_id)
    if not keys[0].user.may_use_models:
        raise KeyBlocked
    for key in keys:
        if key.blocked_at is None:
            return Credential(
                key_id=key.pk,
                secret=decrypt(key.secret),
                key_hash=key.key_hash,
                state=key.lifecycle,
            )
    raise KeyBlocked


def _refuse_where_switched_off(user_id: int) -> None:
    now = timezone.now()
    switch = (
        KillSwitch.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), lifted_at=None)
        .filter(
            Q(scope=KillSwitch.Scope.EVERYONE)
            | Q(user_id=user_id)
            | Q(plan__entitlements__user_id=user_id)
        )
        .values_list("scope", flat=True)
        .first()
    )
    if switch == KillSwitch.Scope.USER:
        raise KeyBlocked
    if switch is not None:
        raise ModelsWithdrawn

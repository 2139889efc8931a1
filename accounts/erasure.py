"""What a closed account leaves at Firebase: its account there, erased with a record of it.

Closing an account erases our own rows at once (accounts.services). Firebase is far away and may be
down, so its part is planned work that is done until it succeeds. Without a service account nothing
can be done: the account at Firebase is then its holder's own to delete.
"""

import logging

from django.db import transaction
from django.utils import timezone

from accounts.audit import record_act
from accounts.identities import (
    IdentityRefused,
    IdentityUnavailable,
    delete_identity,
    is_configured,
)
from accounts.models import User
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)

AT_ONCE = 200


def erase_identities() -> int:
    """Delete closed accounts' own accounts at Firebase; how many. The uid stays on our row, so that
    a token which is still valid opens no fresh account."""
    if not is_configured():
        return 0
    waiting = User.objects.filter(
        deleted_at__isnull=False, identity_erased_at=None, firebase_uid__isnull=False
    )
    erased = 0
    for user in waiting.order_by("deleted_at")[:AT_ONCE]:
        try:
            delete_identity(user.firebase_uid or "")
        except IdentityUnavailable as error:
            logger.warning("Closed accounts are not erased at Firebase yet: %s", error)
            break
        except IdentityRefused as error:
            logger.error(
                "Firebase does not erase a closed account: %s", error, extra={"user_id": user.pk}
            )
            continue
        _record(user)
        erased += 1
    return erased


@transaction.atomic
def _record(user: User) -> None:
    now = timezone.now()
    if User.objects.filter(pk=user.pk, identity_erased_at=None).update(identity_erased_at=now):
        record_act(
            action="user.identity_erased", cause=Cause.system("erasure"), target=user, user=user
        )

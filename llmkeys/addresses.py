"""Which gateway everything we remember is about.

What a key was last seen to be says nothing about another gateway. When LITELLM_URL names a new one
(a move, another region), it is *taken up*: everything is put behind and in doubt, so that each key
and each plan is read back there, and made, with its old value and its spend, where it is missing.
The old gateway is left as it is. Health (llmkeys.breaker) is kept for each address by itself.

While a deployment is under way, workers with the old address and with the new one run side by side.
The address of the process that started last wins; the others leave keys alone.
"""

import logging
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from llmkeys import marking
from llmkeys.models import GatewayState, KillSwitch
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)

# Forked workers share the moment at which their parent read the settings.
PROCESS_STARTED = timezone.now()


def follow(*, started: datetime | None = None) -> bool:
    """Whether this process's gateway is the one in use; takes it up where it is the newer one.

    ``started``: when this process read its settings.
    """
    if GatewayState.objects.filter(url=settings.LITELLM_URL, in_use_since__isnull=False).exists():
        return True
    with transaction.atomic():
        in_use = GatewayState.objects.select_for_update().exclude(in_use_since=None).first()
        if in_use is not None and in_use.url == settings.LITELLM_URL:
            return True
        since = in_use.in_use_since if in_use is not None else None
        if since is not None and since > (started or PROCESS_STARTED):
            logger.error("This process is set to a gateway that was replaced since it started")
            return False
        _take_up()
        if in_use is not None:
            logger.warning("The gateway's address has changed: every key is read back")
            marking.mark_everything(cause=Cause.system("another gateway"))
    return True


def _take_up() -> None:
    # Nobody looks at the other one any more, so nobody would ever close its breaker.
    GatewayState.objects.exclude(url=settings.LITELLM_URL).update(
        in_use_since=None, opened_at=None, retry_at=None, reason="", detail="", openings=0
    )
    GatewayState.objects.update_or_create(
        url=settings.LITELLM_URL,
        defaults={"in_use_since": timezone.now(), "converged_at": None},
    )
    # What was proven of the other one has to be proven here.
    KillSwitch.objects.filter(lifted_at=None).update(proven_at=None, proof=None)

"""One circuit breaker per gateway address, kept in the database so that all workers share it.

Closed: work goes on. Open: no key is touched and none counts a failure, so an outage leaves one
alarm instead of one error per key. Once ``retry_at`` has passed, the next sweep makes a single
call; it closes the breaker, or opens it for longer.
"""

import logging
import threading
from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from llmkeys.litellm_client import LiteLLMClient
from llmkeys.litellm_errors import LiteLLMError, LiteLLMUnavailable, MasterKeyRefused
from llmkeys.models import GatewayState, PlanAtGateway, VirtualKey
from llmkeys.models.reconciled import BEHIND
from tesslate.lib.sql import fetch

logger = logging.getLogger(__name__)

# Failures in a row, in one batch, before we ask whether it is the gateway or the keys.
SUSPICION = 5
FIRST_WAIT = timedelta(seconds=2)
LONGEST_WAIT = timedelta(minutes=1)


class GatewayDown(Exception):
    """The breaker is open: leave everything as it is."""


class BatchBreaker:
    """The breaker as one batch of calls sees it; used from several threads.

    ``guard`` refuses further calls once the gateway has proved to be down.
    """

    def __init__(self, client: LiteLLMClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._failures = 0
        self.trip: LiteLLMError | None = None

    def guard(self) -> None:
        if self.trip is not None:
            raise GatewayDown

    def note(self, error: LiteLLMError | None) -> None:
        """Tell how a key's work ended. Five failures in a row are looked into before they count
        against the gateway: a single key may be at fault."""
        with self._lock:
            if self.trip is not None:
                return
            if isinstance(error, MasterKeyRefused):
                self.trip = error
            elif isinstance(error, LiteLLMUnavailable):
                self._failures += 1
                if self._failures >= SUSPICION:
                    self._failures = 0
                    self.trip = look(self._client)
            else:
                self._failures = 0


def look(client: LiteLLMClient) -> LiteLLMError | None:
    """What is wrong with the gateway as a whole, if anything."""
    try:
        client.check()
    except LiteLLMError as error:
        return error
    return None


def state() -> GatewayState:
    return GatewayState.objects.get_or_create(url=settings.LITELLM_URL)[0]


_IS_OPEN = """
    SELECT EXISTS (
        SELECT FROM llmkeys_gatewaystate
        WHERE CASE WHEN url = %s THEN opened_at ELSE in_use_since END IS NOT NULL
    )
"""


def is_open() -> bool:
    """Whether to leave keys alone: the gateway does not work, or is not the one in use."""
    return bool(fetch(_IS_OPEN, [settings.LITELLM_URL])[0][0])


def open_for(error: LiteLLMError) -> None:
    """Stop all work on keys. Says so once, however many workers find out."""
    now = timezone.now()
    gateway = state()
    wait = min(FIRST_WAIT * 2 ** min(gateway.openings, 10), LONGEST_WAIT)
    refused = isinstance(error, MasterKeyRefused)
    reason = GatewayState.Reason.MASTER_KEY if refused else GatewayState.Reason.UNREACHABLE
    changed = GatewayState.objects.filter(pk=gateway.pk, opened_at=None).update(
        opened_at=now, reason=reason, detail=str(error)[:500]
    )
    GatewayState.objects.filter(pk=gateway.pk).update(
        retry_at=now + wait, openings=F("openings") + 1, reason=reason, detail=str(error)[:500]
    )
    if changed:
        logger.error("Key sync stops: %s", error, extra={"reason": str(reason)})


def close() -> None:
    closed = GatewayState.objects.filter(url=settings.LITELLM_URL, opened_at__isnull=False).update(
        opened_at=None, retry_at=None, reason="", detail="", openings=0
    )
    if closed:
        # What waited for the gateway waits no longer; oldest first (llmkeys.leases.claim).
        for model in (VirtualKey, PlanAtGateway):
            model.objects.filter(BEHIND).update(next_attempt_at=Coalesce(F("dirty_since"), Now()))
        logger.warning("Key sync goes on: the gateway answers again")


def try_to_close(client: LiteLLMClient) -> bool:
    """Whether work may go on; makes one call where the breaker is open and its wait is over."""
    gateway = state()
    if gateway.opened_at is None:
        return True
    if gateway.retry_at is not None and gateway.retry_at > timezone.now():
        return False
    error = look(client)
    if error is not None:
        open_for(error)
        return False
    close()
    return True

"""Until the gateway obeys: it may store a change and go on acting on an old copy for a while, so
after access was taken away we ask, with the key itself, until it is refused."""

import logging
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from llmkeys import breaker, gateway
from llmkeys.acting import obeys
from llmkeys.litellm_errors import LiteLLMUnavailable
from llmkeys.metrics import ENFORCEMENT_LAG
from llmkeys.models import KeyEvent, PlanAtGateway, VirtualKey
from llmkeys.recording import OBEY_WITHIN, PROBE_EVERY
from llmkeys.shared_objects import probe_plan
from tesslate.lib.crypto import decrypt

logger = logging.getLogger(__name__)


def probe_due(*, limit: int = 200) -> int:
    """Probe every key and plan whose turn has come; how many."""
    if breaker.is_open():
        return 0
    now = timezone.now()
    keys = list(VirtualKey.objects.filter(probe_at__lte=now).order_by("probe_at")[:limit])
    plans = list(PlanAtGateway.objects.filter(probe_at__lte=now))
    for key in keys:
        probe_key(key)
    for plan in plans:
        _record_plan(plan, probe_plan(gateway.client(), plan.plan_id, plan.probe_for or {}))
    return len(keys) + len(plans)


def probe_key(key: VirtualKey) -> bool:
    """Whether the gateway now refuses what it should, written down; alarms when it is late."""
    if key.probe_for is None or not key.secret:
        return True
    try:
        obeyed = obeys(
            gateway.client(),
            decrypt(key.secret),
            key.probe_for,
            settings.LITELLM_PROBE_REPEATS,
        )
    except LiteLLMUnavailable:
        obeyed = False
    now = timezone.now()
    # Whatever was decided since about this key has set its own expectation.
    same = VirtualKey.objects.filter(pk=key.pk, probe_for=key.probe_for)
    if obeyed:
        gone = {"secret": ""} if key.removed_at is not None else {}
        same.update(
            probe_for=None,
            probe_at=None,
            probe_since=None,
            enforced_at=now,
            enforcement_alarm_at=None,
            **gone,
        )
        KeyEvent.objects.create(key=key, action="enforced", generation=key.observed_generation)
        ENFORCEMENT_LAG.observe((now - (key.probe_since or now)).total_seconds())
        return True
    late = is_late(key.probe_since, now)
    if late and key.enforcement_alarm_at is None:
        same.update(enforcement_alarm_at=now)
        message = f"still accepted {int(OBEY_WITHIN.total_seconds())} s after it was withdrawn"
        KeyEvent.objects.create(
            key=key, action="not enforced", outcome=KeyEvent.Outcome.UNKNOWN, message=message
        )
        logger.error("The gateway does not obey", extra={"key": key.pk})
    same.update(probe_at=now + PROBE_EVERY * (10 if late else 1))
    return False


def is_late(since: datetime | None, now: datetime) -> bool:
    return since is not None and now - since > OBEY_WITHIN


def _record_plan(shared: PlanAtGateway, obeyed: bool) -> None:
    now = timezone.now()
    same = PlanAtGateway.objects.filter(pk=shared.pk, probe_for=shared.probe_for)
    if obeyed:
        same.update(
            probe_for=None,
            probe_at=None,
            probe_since=None,
            enforced_at=now,
            enforcement_alarm_at=None,
        )
        KeyEvent.objects.create(plan_id=shared.plan_id, action="enforced")
        return
    late = is_late(shared.probe_since, now)
    if late and shared.enforcement_alarm_at is None:
        same.update(enforcement_alarm_at=now)
        logger.error("The gateway does not obey", extra={"plan": shared.plan_id})
    same.update(probe_at=now + PROBE_EVERY * (10 if late else 1))

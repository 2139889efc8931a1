"""The inbox: store what Stripe sent, hand events to workers one at a time, keep what failed.

    store(event, body)         one row per event id, however often it is delivered
    process_next_event()       claim the oldest due event and process it
    replay(events, cause)      process them again

The row is the queue. A worker claims an event for LEASE; if it dies, the lease runs out and
another worker takes over. Two events of one customer are not processed at the same time.
"""

import logging
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.audit import record_act
from plans import handlers
from plans.errors import StripeUnavailable
from plans.handlers import ReadingBehind, Verdict
from plans.metrics import EVENT_FAILURES, EVENT_LAG, EVENTS
from plans.models import StripeEvent
from plans.stripe_reading import object_id
from plans.versions import is_readable
from tesslate.lib.cause import Cause
from tesslate.lib.logcontext import log_fields
from tesslate.lib.redaction import redact
from tesslate.lib.sql import fetch

logger = logging.getLogger(__name__)
State = StripeEvent.State

LEASE = timedelta(seconds=120)
# Failures of ours before an event is set aside; Stripe's own failures do not count.
MAX_FAILURES = 8
LONGEST_DELAY = timedelta(minutes=10)


class NotAnEvent(ValueError):
    """Signed, but not a snapshot event that this endpoint understands."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Stored:
    is_new: bool
    state: str


_STORE = """
    INSERT INTO plans_stripeevent (
        event_id, type, api_version, livemode, created_at, received_at, object_type, object_id,
        stripe_customer_id, payload, state, outcome, attempts, next_attempt_at, last_error,
        deliveries
    ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, 0, %s, '', 1)
    ON CONFLICT (event_id) DO UPDATE SET
        deliveries = plans_stripeevent.deliveries + 1,
        attempts = CASE WHEN plans_stripeevent.state IN ('dead', 'quarantined')
            THEN 0 ELSE plans_stripeevent.attempts END,
        failures = CASE WHEN plans_stripeevent.state IN ('dead', 'quarantined')
            THEN 0 ELSE plans_stripeevent.failures END,
        outcome = CASE WHEN plans_stripeevent.state IN ('dead', 'quarantined')
            THEN EXCLUDED.outcome ELSE plans_stripeevent.outcome END,
        state = CASE WHEN plans_stripeevent.state IN ('dead', 'quarantined')
            THEN EXCLUDED.state ELSE plans_stripeevent.state END,
        next_attempt_at = least(plans_stripeevent.next_attempt_at, EXCLUDED.next_attempt_at)
    RETURNING (xmax = 0), state
"""


def json_text(event: Any) -> str:
    """An event as JSON that PostgreSQL's jsonb takes: without the NUL character."""
    text = orjson.dumps(event).decode()
    if "\\u0000" not in text:
        return text
    # An escaped backslash before "u0000" is text about NUL, not NUL.
    kept = text.replace("\\\\", "\0").replace("\\u0000", "")
    return kept.replace("\0", "\\\\")


def store(event: Any, body: str) -> Stored:
    """Keep an event under its id; ``body`` is the JSON text it was parsed from.

    One statement: once it returns, the event survives anything. A redelivery of one that was
    not handled yet makes it due again. Raises NotAnEvent.
    """
    fields = _fields(event)
    state, outcome = triage(event)
    now = timezone.now()
    values = [*fields[:5], now, *fields[5:], body, state, outcome, now]
    [(is_new, state_now)] = fetch(_STORE, values)
    if is_new and state != State.PENDING:
        EVENTS.labels(fields[1], state).inc()
    return Stored(is_new, state_now)


def _fields(event: Any) -> list[Any]:
    """Event id, type, version, mode, creation, and what it is about; raises NotAnEvent."""
    if not isinstance(event, dict) or event.get("object") != "event":
        thin = isinstance(event, dict) and str(event.get("object", "")).startswith("v2.")
        raise NotAnEvent("thin_event" if thin else "not_an_event")
    data = event.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    event_id, kind, created = event.get("id"), event.get("type"), event.get("created")
    if not (isinstance(event_id, str) and 0 < len(event_id) <= 255):
        raise NotAnEvent("no_id")
    if not (isinstance(kind, str) and kind) or not isinstance(about, dict):
        raise NotAnEvent("not_an_event")
    if not isinstance(created, int) or not 0 < created < 253402300800:
        raise NotAnEvent("no_creation_time")
    is_customer = about.get("object") == "customer"
    return [
        event_id,
        kind[:100],
        str(event.get("api_version") or "")[:50],
        event.get("livemode") is True,
        datetime.fromtimestamp(created, UTC),
        str(about.get("object") or "")[:100],
        object_id(about)[:255],
        (object_id(about) if is_customer else object_id(about.get("customer")))[:255],
    ]


def triage(event: dict[str, Any]) -> tuple[str, str]:
    """State and outcome that an event starts with, by looks alone."""
    if (event.get("livemode") is True) != settings.STRIPE_LIVEMODE:
        return State.IGNORED, "ignored:mode"
    if event.get("account") or event.get("context"):
        return State.IGNORED, "ignored:account"
    if not is_readable(str(event.get("api_version") or "")):
        return State.QUARANTINED, "quarantined:version"
    if event["type"] not in handlers.HANDLERS:
        return State.IGNORED, "ignored:type"
    return State.PENDING, ""


_COLUMNS = [field.attname for field in StripeEvent._meta.concrete_fields]

# A claim that was never given back is a worker that died: perhaps of this very event.
# The queue is read in its order, up to the first event to be had. Left to itself PostgreSQL takes
# a queue that it last saw empty for short, and gathers and sorts all of it, with every entry that
# left since the last vacuum, for each claim.
_CLAIM = f"""
    SET LOCAL enable_bitmapscan = off;
    SET LOCAL enable_sort = off;
    UPDATE plans_stripeevent SET
        claimed_until = %(until)s,
        attempts = attempts + 1,
        failures = failures + (claimed_until IS NOT NULL)::int
    WHERE id = (
        SELECT id FROM plans_stripeevent AS due
        WHERE state = 'pending' AND next_attempt_at <= %(now)s
            AND (claimed_until IS NULL OR claimed_until < %(now)s)
            AND NOT EXISTS (
                SELECT 1 FROM plans_stripeevent AS busy
                WHERE due.stripe_customer_id <> ''
                    AND busy.stripe_customer_id = due.stripe_customer_id
                    AND busy.state = 'pending' AND busy.claimed_until >= %(now)s
                    AND busy.id <> due.id
            )
        ORDER BY next_attempt_at, id
        FOR UPDATE SKIP LOCKED LIMIT 1
    )
    RETURNING {", ".join(_COLUMNS)}
"""  # noqa: S608 - names of columns

_FINISH = """
    UPDATE plans_stripeevent
    SET state = %s, outcome = %s, processed_at = %s, claimed_until = NULL, last_error = ''
    WHERE id = %s
"""


def claim_next_event(now: datetime) -> StripeEvent | None:
    """The oldest due event, held for LEASE; customers that another worker is at are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"now": now, "until": now + LEASE})
        while cursor.nextset():
            pass
        row = cursor.fetchone()
    if row is None:
        return None
    values = dict(zip(_COLUMNS, row, strict=True))
    if values["payload"] is not None:
        values["payload"] = orjson.loads(values["payload"])
    return StripeEvent.from_db(connection.alias, _COLUMNS, list(values.values()))


def process_next_event(*, now: datetime | None = None) -> bool:
    """Process one due event; says whether there was one."""
    now = now or timezone.now()
    event = claim_next_event(now)
    if event is None:
        return False
    with log_fields(event_id=event.event_id):
        _process(event, now)
    return True


def _process(event: StripeEvent, now: datetime) -> None:
    if event.failures >= MAX_FAILURES:
        _set_aside(event, "Workers died while they had it.")
        return
    try:
        with transaction.atomic():
            verdict = handlers.handle(event, now=now)
            _finish(event, verdict)
    except ReadingBehind:
        _retry(event, now, timedelta(seconds=2), "Stripe's answer is older than the event.")
    except StripeUnavailable as error:
        EVENT_FAILURES.labels("stripe_unavailable").inc()
        _retry(event, now, _delay_by_age(event, now), str(error))
    except Exception as error:
        EVENT_FAILURES.labels("error").inc()
        logger.exception("event %s failed", event.event_id)
        _fail(event, now, error)


def _finish(event: StripeEvent, verdict: Verdict) -> None:
    """Write the outcome in the same transaction as the effects."""
    done_at = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_FINISH, [verdict.state, verdict.outcome, done_at, event.pk])
    EVENTS.labels(event.type, verdict.state).inc()
    EVENT_LAG.observe(max(0.0, (done_at - event.received_at).total_seconds()))


def _retry(event: StripeEvent, now: datetime, delay: timedelta, error: str) -> None:
    StripeEvent.objects.filter(pk=event.pk).update(
        next_attempt_at=now + delay, claimed_until=None, last_error=error
    )


def _delay_by_age(event: StripeEvent, now: datetime) -> timedelta:
    """Half as long again as the event has waited: grows by itself however it is counted."""
    waited = max(now - event.received_at, timedelta(seconds=2))
    return min(waited / 2, LONGEST_DELAY) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter


def _fail(event: StripeEvent, now: datetime, error: Exception) -> None:
    described = redact(f"{type(error).__name__}: {error}")[:2000]
    event.failures += 1
    if event.failures >= MAX_FAILURES:
        _set_aside(event, described)
        return
    delay = min(timedelta(seconds=2**event.failures), LONGEST_DELAY)
    StripeEvent.objects.filter(pk=event.pk).update(failures=event.failures)
    _retry(event, now, delay, described)


def _set_aside(event: StripeEvent, error: str) -> None:
    """Staff see it, and replay it once the cause is mended."""
    logger.error("event %s is set aside after %d failures", event.event_id, event.failures)
    StripeEvent.objects.filter(pk=event.pk).update(
        state=State.DEAD,
        outcome="dead",
        failures=event.failures,
        processed_at=timezone.now(),
        claimed_until=None,
        last_error=error,
    )
    EVENTS.labels(event.type, State.DEAD).inc()


def replay(*, events: Iterable[StripeEvent], cause: Cause) -> int:
    """Make these events due again, whatever became of them; returns how many.

    Safe for any event at any time: processing reads the present state.
    """
    ids = [event.pk for event in events]
    with transaction.atomic():
        count = StripeEvent.objects.filter(pk__in=ids).update(
            state=State.PENDING,
            attempts=0,
            failures=0,
            next_attempt_at=timezone.now(),
            claimed_until=None,
        )
        record_act(action="events.replayed", cause=cause, after={"events": count})
    return count


def release_readable() -> int:
    """After an upgrade: events that waited for a version which we can read now become due."""
    waiting = StripeEvent.objects.filter(
        state=State.QUARANTINED, outcome="quarantined:version"
    ).only("pk", "api_version", "type")
    released = [event.pk for event in waiting if is_readable(event.api_version)]
    return StripeEvent.objects.filter(pk__in=released).update(
        state=State.PENDING, outcome="", attempts=0, failures=0, next_attempt_at=timezone.now()
    )


def forget_payloads(stripe_customer_ids: Collection[str] | QuerySet[Any]) -> int:
    """Forget what handled events told of these customers; the rows stay. Returns how many did."""
    return (
        StripeEvent.objects.filter(
            stripe_customer_id__in=stripe_customer_ids, payload__isnull=False
        )
        .filter(state__in=[State.PROCESSED, State.IGNORED])
        .update(payload=None)
    )


def prune_payloads(*, older_than: timedelta, now: datetime | None = None) -> int:
    """Forget the personal data of events handled long ago; the rows stay."""
    before = (now or timezone.now()) - older_than
    return (
        StripeEvent.objects.filter(received_at__lt=before, payload__isnull=False)
        .filter(state__in=[State.PROCESSED, State.IGNORED])
        .update(payload=None)
    )

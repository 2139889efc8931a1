"""One reading of a subscription serves every event that asked for it before it was taken.

A purchase sends some ten events about one subscription within a second. Each asks for the same
look at Stripe, so after the first look the others that had arrived by then have nothing to add.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from plans.event_types import INVOICE_CHANGES, SUBSCRIPTION_CHANGES
from plans.metrics import EVENT_LAG, EVENTS
from plans.models import StripeEvent
from plans.revenue import note_invoices
from plans.stripe_reading import Json, object_id, subscription_id

OUTCOME = "subscription.coalesced"

_WAITING = """
    SELECT id, type, received_at, payload, object_id FROM plans_stripeevent
    WHERE state = 'pending' AND stripe_customer_id = %(customer)s AND type = ANY(%(types)s)
        AND received_at < %(read_from)s AND id <> %(but)s
        AND (claimed_until IS NULL OR claimed_until < %(read_from)s)
    FOR UPDATE SKIP LOCKED
"""


def settle_siblings(event: StripeEvent, found: Json, *, read_from: datetime) -> int:
    """Finish the pending events that asked for the reading ``found``; returns how many.

    ``read_from`` is when that reading began: an event stored later may know of a later change.
    So may one whose change the reading does not show. Runs in the reading's transaction, under
    the customer's lock.
    """
    waiting = StripeEvent.objects.raw(
        _WAITING,
        {
            "customer": object_id(found.get("customer")),
            "types": sorted(SUBSCRIPTION_CHANGES | INVOICE_CHANGES),
            "read_from": read_from,
            "but": event.pk,
        },
    )
    served = [row for row in waiting if _asks_for(row, found)]
    if not served:
        return 0
    StripeEvent.objects.filter(pk__in=[row.pk for row in served]).update(
        state=StripeEvent.State.PROCESSED,
        outcome=OUTCOME,
        processed_at=read_from,
        claimed_until=None,
        last_error="",
    )
    note_invoices(row.object_id for row in served if row.type in INVOICE_CHANGES)
    for row in served:
        EVENTS.labels(row.type, StripeEvent.State.PROCESSED).inc()
        EVENT_LAG.observe(max(0.0, (read_from - row.received_at).total_seconds()))
    return len(served)


def _asks_for(row: StripeEvent, found: Json) -> bool:
    data: dict[str, Any] = (row.payload or {}).get("data") or {}
    about = data.get("object") or {}
    if row.type in INVOICE_CHANGES:
        return subscription_id(about) == object_id(found)
    return object_id(about) == object_id(found) and not is_behind(
        found, about, data.get("previous_attributes") or {}
    )


def is_behind(found: Json, about: Json, previous: Json) -> bool:
    """Does the reading still show exactly what the event says was before?"""
    simple = {
        name: value
        for name, value in previous.items()
        if not isinstance(value, Mapping | list) and name in found
    }
    return bool(simple) and all(
        found[name] == value and about.get(name) != value for name, value in simple.items()
    )

"""Read Stripe's objects as plain dicts, in every shape that we may meet.

An event keeps the API version of its endpoint, so an object may come in the shape until acacia
(2025-02) or from basil (2025-03-31) on. Every function is total: a missing or odd field gives
None or a neutral value, never an exception.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

Json = Mapping[str, Any]


class Period(NamedTuple):
    start: datetime
    end: datetime


def moment(value: object) -> datetime | None:
    """Stripe's whole seconds since 1970 as a datetime."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def object_id(value: object) -> str:
    """The id of a reference, which may be expanded into the object itself."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _text(value.get("id"))
    return ""


def items(subscription: Json) -> list[Json]:
    return [item for item in _list(subscription, "items") if isinstance(item, Mapping)]


def has_more_items(subscription: Json) -> bool:
    return _dict(subscription, "items").get("has_more") is True


def item_price(item: Json) -> Json:
    """The item's price object; before prices there were only plans, with the same ids."""
    price = item.get("price") or item.get("plan")
    if isinstance(price, str):
        return {"id": price}
    return price if isinstance(price, Mapping) else {}


def price_ids(subscription: Json) -> set[str]:
    return {object_id(item_price(item)) for item in items(subscription)}


def period(subscription: Json, plan_item: Json | None) -> Period | None:
    """The paid period: on the item from basil on, on the subscription before."""
    for holder in (plan_item, subscription):
        if holder is None:
            continue
        start = moment(holder.get("current_period_start"))
        end = moment(holder.get("current_period_end"))
        if start is not None and end is not None and start < end:
            return Period(start, end)
    return None


def quantity(item: Json | None) -> int:
    value = None if item is None else item.get("quantity")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 1


def subscription_id(invoice: Json) -> str:
    """The subscription that an invoice is for, or an empty string."""
    details = _dict(_dict(invoice, "parent"), "subscription_details")
    return object_id(details.get("subscription")) or object_id(invoice.get("subscription"))


def price_id(line: Json) -> str:
    """The price of an invoice line."""
    details = _dict(_dict(line, "pricing"), "price_details")
    return (
        object_id(details.get("price"))
        or object_id(line.get("price"))
        or object_id(line.get("plan"))
    )


def is_proration(line: Json) -> bool:
    parent = _dict(line, "parent")
    for name in ("subscription_item_details", "invoice_item_details"):
        if _dict(parent, name).get("proration") is True:
            return True
    return line.get("proration") is True


def coupon(discount: Json) -> str:
    """The coupon's id: under `source` since clover."""
    return object_id(_dict(discount, "source").get("coupon")) or object_id(discount.get("coupon"))


def is_paid(invoice: Json) -> bool:
    return invoice.get("status") == "paid" or invoice.get("paid") is True


def brought_money(invoice: Json) -> bool:
    """Paid, and there was something to pay: a change of plans may leave an invoice over nothing."""
    return is_paid(invoice) and invoice.get("amount_due") != 0


def overdue_since(invoice: Json) -> datetime | None:
    """When an open invoice's money was first missed.

    A card is charged when the invoice is finalized; an invoice sent by mail is missed on its
    due date. Later attempts move neither, so grace counted from here starts once.
    """
    if invoice.get("collection_method") == "send_invoice":
        due = moment(invoice.get("due_date"))
        if due is not None:
            return due
    finalized = _dict(invoice, "status_transitions").get("finalized_at")
    return moment(finalized) or moment(invoice.get("created"))


def unpaid_run_start(invoices_newest_first: Sequence[Json]) -> datetime | None:
    """Since when money has been missing, told by a subscription's invoices.

    The run of unpaid invoices reaches back from the newest until one that brought money; drafts,
    voided ones and those over nothing neither belong to it nor end it.
    """
    since: datetime | None = None
    for invoice in invoices_newest_first:
        if brought_money(invoice):
            break
        if invoice.get("status") in {"open", "uncollectible"}:
            since = overdue_since(invoice) or since
    return since


def is_unpaid_first(invoice: Json) -> bool:
    """A subscription's very first invoice, and its money is still to come.

    So it is with delayed payment methods: Stripe calls the subscription active while a bank
    transfer is on its way. An invoice sent by mail is different: access before payment is agreed.
    """
    due = invoice.get("amount_due")
    return (
        invoice.get("billing_reason") == "subscription_create"
        and invoice.get("status") == "open"
        and invoice.get("collection_method") != "send_invoice"
        and isinstance(due, int)
        and due > 0
    )


def latest_invoice(subscription: Json) -> Json:
    """The expanded invoice; empty where there is none."""
    return _dict(subscription, "latest_invoice")


def payer_metadata(holder: Json) -> tuple[str, str]:
    """(user id, organization id) as our checkout wrote them; all other metadata is ignored."""
    metadata = _dict(holder, "metadata")
    return _text(metadata.get("user_id")), _text(metadata.get("organization_id"))


def is_deleted(found: Json) -> bool:
    return found.get("deleted") is True


def pending_change(subscription: Json) -> dict[str, Any] | None:
    """The change to come: a pending update awaiting payment, or the schedule's next phase."""
    update = subscription.get("pending_update")
    if isinstance(update, Mapping):
        return {
            "kind": "pending_update",
            "prices": _price_ids(_list(update, "subscription_items")),
            "expires_at": update.get("expires_at"),
        }
    schedule = subscription.get("schedule")
    if isinstance(schedule, Mapping) and schedule.get("status") in {"active", "not_started"}:
        return _next_phase(schedule)
    return None


def _next_phase(schedule: Json) -> dict[str, Any] | None:
    current = _dict(schedule, "current_phase").get("end_date")
    for phase in _list(schedule, "phases"):
        start = phase.get("start_date") if isinstance(phase, Mapping) else None
        if isinstance(start, int) and isinstance(current, int) and start >= current:
            return {"kind": "schedule", "prices": _price_ids(_list(phase, "items")), "at": start}
    return None


def _price_ids(entries: list[Any]) -> list[str]:
    found = (
        object_id(entry.get("price") or entry.get("plan"))
        for entry in entries
        if isinstance(entry, Mapping)
    )
    return [price for price in found if price]


def _dict(holder: Json, name: str) -> Json:
    value = holder.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(holder: Json, name: str) -> list[Any]:
    """A list, given plainly or as Stripe's list object."""
    value = holder.get(name)
    if isinstance(value, Mapping):
        value = value.get("data")
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


# What of a subscription is kept for staff: no names, addresses or payment details.
_KEPT = (
    "id",
    "object",
    "status",
    "customer",
    "created",
    "currency",
    "livemode",
    "collection_method",
    "billing_cycle_anchor",
    "start_date",
    "trial_start",
    "trial_end",
    "cancel_at",
    "cancel_at_period_end",
    "canceled_at",
    "ended_at",
    "latest_invoice",
    "status_details",
    "test_clock",
)


def without_personal_data(subscription: Json) -> dict[str, Any]:
    """What our mirror keeps of the object itself."""
    kept: dict[str, Any] = {name: subscription.get(name) for name in _KEPT if name in subscription}
    kept["customer"] = object_id(subscription.get("customer"))
    kept["latest_invoice"] = object_id(subscription.get("latest_invoice"))
    kept["cancellation_reason"] = _dict(subscription, "cancellation_details").get("reason")
    kept["discounts"] = [object_id(discount) for discount in _list(subscription, "discounts")]
    user_id, organization_id = payer_metadata(subscription)
    kept["metadata"] = {"user_id": user_id, "organization_id": organization_id}
    kept["items"] = [_kept_item(item) for item in items(subscription)]
    return kept


def _kept_item(item: Json) -> dict[str, Any]:
    price = item_price(item)
    recurring = _dict(price, "recurring")
    return {
        "id": item.get("id"),
        "quantity": item.get("quantity"),
        "current_period_start": item.get("current_period_start"),
        "current_period_end": item.get("current_period_end"),
        "price": {
            "id": price.get("id"),
            "lookup_key": price.get("lookup_key"),
            "product": object_id(price.get("product")),
            "unit_amount": price.get("unit_amount"),
            "currency": price.get("currency"),
            "interval": recurring.get("interval"),
            "interval_count": recurring.get("interval_count"),
        },
    }

"""Changing a running subscription: prices, quantities, trial, anchor; proration and payment."""

import copy
from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import (
    collection,
    discounts,
    invoices,
    items,
    payments,
    proration,
    subscriptions,
)
from sandbox.stripe.errors import InvalidRequest, Missing

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

PENDING_HOURS = 23

# The order in which the events of a change usually arrive.
CHANGE_ORDER = (
    "customer.discount.created",
    "customer.discount.deleted",
    "invoiceitem.created",
    "customer.subscription.updated",
    *collection.COLLECTION_ORDER[2:9],
    "customer.updated",
    "invoice.created",
    "invoice.finalized",
    *collection.COLLECTION_ORDER[11:17],
)


def change(
    world: "World",
    sub: Json,
    *,
    wanted: list[Json] | None = None,
    proration_behavior: str = "create_prorations",
    payment_behavior: str = "allow_incomplete",
    moment: int | None = None,
    anchor_now: bool = False,
    trial_end: int | str | None = None,
) -> None:
    """Apply item changes (in the form of the API's `items`) and what follows from them.

    The caller has announced the edit and tells of `customer.subscription.updated` itself.
    """
    at = world.now() if moment is None else moment
    old_items = copy.deepcopy(sub["items"])
    kept = {name: sub[name] for name in ("billing_cycle_anchor", "trial_end", "status")}
    if wanted is not None:
        _apply(world, sub, wanted)
        flexible = sub["billing_mode"]["type"] == "flexible"
        currency = items.check_together(world, sub["items"], flexible=flexible)
        if currency != sub["currency"]:
            raise InvalidRequest(
                f"The price specified only supports `{currency}`. This doesn't match the expected "
                f"currency: `{sub['currency']}`.",
                param="items",
            )
    ends_trial = _move_trial(world, sub, trial_end)
    if sub["status"] in ("trialing", "paused", "canceled"):
        _follow_trial(world, sub)
    else:
        _bill(world, sub, old_items, kept, proration_behavior, payment_behavior, at,
              anew=anchor_now or ends_trial, prorate=not ends_trial)  # fmt: skip
    if sub["cancel_at_period_end"]:
        sub["cancel_at"] = subscriptions.resolve_end(sub, "max_period_end")


def _bill(
    world: "World",
    sub: Json,
    old_items: list[Json],
    kept: Json,
    proration_behavior: str,
    payment_behavior: str,
    at: int,
    *,
    anew: bool,
    prorate: bool,
) -> None:
    """Prorate between the old items and the new, and invoice where that cannot wait."""
    fresh_cycle = anew or _needs_fresh_cycle(world, old_items, sub["items"])
    prorate = prorate and proration_behavior != "none" and sub["status"] != "incomplete"
    if prorate:
        _credit_changes(world, sub, old_items, at, everything=fresh_cycle)
    if fresh_cycle:
        sub["billing_cycle_anchor"] = world.now()
        for item in sub["items"]:
            items.set_period(world, sub, item, world.now())
    elif prorate:
        _charge_changes(world, sub, old_items, at)
    if fresh_cycle or proration_behavior == "always_invoice":
        _bill_now(world, sub, old_items, kept, payment_behavior, fresh_cycle=fresh_cycle)


def _apply(world: "World", sub: Json, wanted: list[Json]) -> None:
    for index, entry in enumerate(wanted):
        where = f"items[{index}]"
        if not entry.get("id"):
            price = items.priced(world, entry, where)
            item = items.new_item(world, sub["id"], price, entry)
            interval_like = sub["items"][0] if sub["items"] else None
            sub["items"].append(item)
            if interval_like and items.cycle(world, item) == items.cycle(world, interval_like):
                for name in ("current_period_start", "current_period_end"):
                    item[name] = interval_like[name]
            else:
                items.set_period(world, sub, item, world.now())
            continue
        found = [held for held in sub["items"] if held["id"] == entry["id"]]
        if not found:
            raise Missing.thing("subscription item", entry["id"], f"{where}[id]")
        if entry.get("deleted"):
            sub["items"].remove(found[0])
            continue
        _change_item(world, sub, found[0], entry, where)


def _change_item(world: "World", sub: Json, item: Json, entry: Json, where: str) -> None:
    if entry.get("price") or entry.get("price_data"):
        # Keeping an inactive price is fine, moving to one is not.
        if entry.get("price") != item["price"]:
            item["price"] = items.priced(world, entry, where)["id"]
        if world.get("price", item["price"])["recurring"]["usage_type"] == "metered":
            item.pop("quantity", None)
        else:
            item.setdefault("quantity", 1)
    if entry.get("quantity") is not None:
        item["quantity"] = entry["quantity"]
    if "metadata" in entry:
        changes = entry["metadata"] or dict.fromkeys(item["metadata"])
        merged = {**item["metadata"], **changes}
        item["metadata"] = {name: value for name, value in merged.items() if value is not None}
    if entry.get("discounts") is not None:
        item["discounts"] = discounts.take_on(
            world, entry["discounts"], customer=sub["customer"], subscription=sub["id"],
            item=item["id"], param=f"{where}[discounts]",
        )  # fmt: skip


def _move_trial(world: "World", sub: Json, trial_end: int | str | None) -> bool:
    """Set a new trial end; True if that ends a running trial now."""
    if trial_end is None:
        return False
    now = world.now()
    was_trialing = sub["status"] == "trialing"
    if trial_end == "now":
        if was_trialing:
            sub["trial_end"], sub["status"] = now, "active"
        return bool(was_trialing)
    if int(trial_end) <= now:
        raise InvalidRequest(
            "Invalid timestamp: must be an integer Unix timestamp in the future.",
            param="trial_end",
        )
    sub.update(trial_end=trial_end, billing_cycle_anchor=trial_end, status="trialing")
    sub["trial_start"] = sub["trial_start"] or now
    sub["_trial_notice"] = False
    return False


def _follow_trial(world: "World", sub: Json) -> None:
    if sub["status"] == "trialing":
        for item in sub["items"]:
            item["current_period_end"] = sub["trial_end"]


def _needs_fresh_cycle(world: "World", old: list[Json], new: list[Json]) -> bool:
    """Another interval, or the step from free to paid, starts a new period now."""
    before = {items.cycle(world, item) for item in old}
    after = {items.cycle(world, item) for item in new}
    if before.isdisjoint(after):
        return True
    return items.is_free(world, old) and not items.is_free(world, new)


def _same(one: Json, other: Json) -> bool:
    return all(one.get(name) == other.get(name) for name in ("price", "quantity"))


def _credit_changes(
    world: "World", sub: Json, old: list[Json], at: int, *, everything: bool
) -> None:
    now_held = {item["id"]: item for item in sub["items"]}
    for item in old:
        changed = item["id"] not in now_held or not _same(item, now_held[item["id"]])
        if everything or changed:
            proration.credit(world, sub, item, at)


def _charge_changes(world: "World", sub: Json, old: list[Json], at: int) -> None:
    before = {item["id"]: item for item in old}
    for item in sub["items"]:
        if item["id"] not in before or not _same(item, before[item["id"]]):
            proration.charge(world, sub, item, at)


def _bill_now(
    world: "World",
    sub: Json,
    old_items: list[Json],
    kept: Json,
    payment_behavior: str,
    *,
    fresh_cycle: bool,
) -> None:
    waiting = proration.pending_for(world, sub["customer"], sub["id"])
    made = items.full_lines(world, sub, sub["items"]) if fresh_cycle else []
    if not waiting and not made:
        return
    invoice = invoices.draft(
        world,
        world.get("customer", sub["customer"]),
        reason="subscription_update",
        currency=sub["currency"],
        invoice_lines=made,
        subscription=sub,
        pending=waiting,
        discount_ids=sub["discounts"],
    )
    sub["latest_invoice"] = invoice["id"]
    world.emit("invoice.created", invoice)
    may_wait = payment_behavior == "pending_if_incomplete"
    if may_wait:
        invoice["_for_pending_update"] = True
    invoices.finalize(world, invoice)
    if invoice["amount_due"] == 0:
        invoices.mark_paid(world, invoice)
        return
    if invoice["collection_method"] == "send_invoice" or payment_behavior == "default_incomplete":
        return
    if may_wait:
        invoice["auto_advance"] = False
    outcome = collection.charge(world, invoice)
    if outcome.kind not in (payments.DECLINED, payments.ACTION):
        return
    if payment_behavior == "error_if_incomplete":
        raise subscriptions.refusal(outcome)
    if may_wait:
        _hold_back(world, sub, old_items, kept, invoice)


# --- changes that wait for their payment


def _hold_back(
    world: "World",
    sub: Json,
    old_items: list[Json],
    kept: Json,
    invoice: Json,
) -> None:
    """Keep the old plan until the invoice is paid; forget the change after 23 hours."""
    pending = copy.deepcopy(sub["items"])
    sub["_pending"] = {
        "invoice": invoice["id"],
        "items": pending,
        "anchor": sub["billing_cycle_anchor"],
    }
    sub.update(items=old_items, **kept)
    sub["pending_update"] = {
        "billing_cycle_anchor": None,
        "discounts": [],
        "expires_at": world.now() + PENDING_HOURS * 3600,
        "metadata": None,
        "subscription_items": [
            {**item, "price": world.public(world.get("price", item["price"]))} for item in pending
        ],
        "trial_end": None,
        "trial_from_plan": None,
    }


def _apply_pending(world: "World", sub: Json, invoice: Json) -> bool:
    if not sub["pending_update"] or sub["_pending"]["invoice"] != invoice["id"]:
        return False
    before = world.public(sub)
    world.edit(sub).update(
        items=sub["_pending"]["items"],
        billing_cycle_anchor=sub["_pending"]["anchor"],
        pending_update=None,
        _pending=None,
    )
    world.emit("customer.subscription.pending_update_applied", sub)
    world.emit("customer.subscription.updated", sub, before=before)
    return True


def expire_pending(world: "World", sub: Json) -> None:
    before = world.public(sub)
    invoice = world.get("invoice", sub["_pending"]["invoice"])
    world.edit(sub).update(pending_update=None, _pending=None)
    if invoice["status"] == "open":
        invoices.void(world, invoice)
    world.emit("customer.subscription.pending_update_expired", sub)
    world.emit("customer.subscription.updated", sub, before=before)


collection.WAITING_FOR_PAYMENT.append(_apply_pending)

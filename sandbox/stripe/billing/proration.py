"""Prorations: credit for what was paid and not used, charge for what is used and not paid.

Stripe counts to the second (https://docs.stripe.com/billing/subscriptions/prorations). Each part
becomes a pending invoice item, which the subscription's next invoice collects.
"""

from typing import TYPE_CHECKING, Any

import orjson

from sandbox.stripe.billing import amounts, discounts, lines

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


def credit(world: "World", sub: Json, item: Json, moment: int) -> None:
    """Pay back the rest of an item's period, as it was until now."""
    _add(world, sub, item, moment, sign=-1, wording="Unused time on")


def charge(world: "World", sub: Json, item: Json, moment: int) -> None:
    """Bill the rest of an item's period, as it is from now on."""
    _add(world, sub, item, moment, sign=1, wording="Remaining time on")


def _add(world: "World", sub: Json, item: Json, moment: int, *, sign: int, wording: str) -> None:
    price = world.get("price", item["price"])
    if price["recurring"]["usage_type"] == "metered":
        return
    quantity = item.get("quantity") or 0
    start, end = item["current_period_start"], item["current_period_end"]
    left = discounts.percent_left(world, sub["discounts"] + item["discounts"])
    full = amounts.rounded(amounts.total(price, quantity) * left)
    amount = sign * amounts.share(full, start, end, moment)
    if amount == 0:
        return
    named = f"{quantity} × " if quantity != 1 else ""
    pending = world.new(
        "invoiceitem",
        amount=amount,
        net_amount=amount,
        currency=sub["currency"],
        customer=sub["customer"],
        date=moment,
        description=f"{wording} {named}{lines.product_name(world, price)}",
        discountable=False,
        discounts=[],
        metadata={},
        parent={
            "subscription_details": {
                "subscription": sub["id"],
                "subscription_item": item["id"],
            },
            "type": "subscription_details",
        },
        period={"start": moment, "end": end},
        pricing=lines.pricing_of(price),
        proration=True,
        proration_details={"discount_amounts": []},
        quantity=quantity,
        quantity_decimal=str(quantity),
        tax_rates=[],
        test_clock=sub["test_clock"],
    )
    world.emit("invoiceitem.created", pending)


def pending_for(world: "World", customer: str, subscription: str | None) -> list[Json]:
    """Items waiting for an invoice: a subscription's own, and the customer's that name none."""
    waiting = []
    for item in world.state.each("invoiceitem", "customer", customer):
        if item["invoice"] is not None:
            continue
        details = item["parent"] and item["parent"]["subscription_details"]
        owner = details["subscription"] if details else None
        if owner is None or owner == subscription:
            waiting.append(item)
    return waiting


def drop_pending(world: "World", sub: Json) -> None:
    for item in pending_for(world, sub["customer"], sub["id"]):
        if item["proration"]:
            world.state.remove(item)
            world.emit_raw("invoiceitem.deleted", _tombstone(item), subject=item["id"])


def _tombstone(item: Json) -> bytes:
    return orjson.dumps({"id": item["id"], "object": "invoiceitem", "deleted": True})

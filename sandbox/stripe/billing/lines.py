"""Lines of an invoice, in the shape since basil: price under `pricing`, origin under `parent`."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import amounts
from sandbox.stripe.shapes import blank

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


def pricing_of(price: Json) -> Json:
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def product_name(world: "World", price: Json) -> str:
    product = world.find("product", price["product"])
    return product["name"] if product else "Subscription"


def describe(world: "World", price: Json, quantity: int) -> str:
    every = price["recurring"]
    name = product_name(world, price)
    if not every:
        return name
    each = (
        ""
        if price["unit_amount"] is None
        else amounts.money(price["unit_amount"], price["currency"])
    )
    return f"{quantity} × {name} (at {each} / {every['interval']})"


def for_item(
    world: "World", sub: Json, item: Json, *, start: int, end: int, amount: int | None = None
) -> Json:
    """A period of a subscription item; `amount` None means its full price."""
    price = world.get("price", item["price"])
    quantity = item.get("quantity")
    metered = price["recurring"]["usage_type"] == "metered"
    if amount is None:
        amount = 0 if metered else amounts.total(price, quantity or 0)
    line = _line(world, price, quantity or 0, amount)
    line["period"] = {"start": start, "end": end}
    line["description"] = describe(world, price, quantity or 0)
    line["subscription"] = sub["id"]
    line["metadata"] = dict(item["metadata"])
    line["parent"] = {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": None,
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": sub["id"],
            "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    }
    return line


def for_trial(world: "World", sub: Json, item: Json) -> Json:
    line = for_item(
        world,
        sub,
        item,
        start=item["current_period_start"],
        end=item["current_period_end"],
        amount=0,
    )
    price = world.get("price", item["price"])
    line["description"] = f"Trial period for {product_name(world, price)}"
    return line


def for_invoice_item(world: "World", pending: Json) -> Json:
    """A pending invoice item (a proration or a charge of its own) moved onto an invoice."""
    details = pending["parent"] and pending["parent"]["subscription_details"]
    line = blank("line_item")
    line.update(
        id=world.ids.new("line_item"),
        amount=pending["amount"],
        subtotal=pending["amount"],
        currency=pending["currency"],
        description=pending["description"],
        discountable=pending["discountable"],
        period=pending["period"],
        quantity=pending["quantity"],
        quantity_decimal=str(pending["quantity"]),
        pricing=pending["pricing"],
        subscription=details["subscription"] if details else None,
        metadata=pending["metadata"] or {},
        parent={
            "invoice_item_details": {
                "invoice_item": pending["id"],
                "proration": pending["proration"],
                "proration_details": {"credited_items": None},
                "subscription": details["subscription"] if details else None,
            },
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
    )
    return line


def _line(world: "World", price: Json, quantity: int, amount: int) -> Json:
    line = blank("line_item")
    line.update(
        id=world.ids.new("line_item"),
        amount=amount,
        subtotal=amount,
        currency=price["currency"],
        pricing=pricing_of(price),
        quantity=quantity,
        quantity_decimal=str(quantity),
    )
    return line

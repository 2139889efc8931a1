"""Subscription items: checking what is asked for, and the periods each is billed by."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import amounts, lines
from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.periods import period_at
from sandbox.stripe.shapes import blank

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

MAX_ITEMS = 20


def usable_price(world: "World", id: str, param: str) -> Json:
    price = world.find("price", id)
    if price is None:
        raise Missing.thing("price", id, param)
    if not price["active"]:
        raise InvalidRequest(
            "The price specified is inactive. This field only accepts active prices.",
            param=param,
        )
    if not price["recurring"]:
        raise InvalidRequest(
            "The price specified is set to `type=one_time` but this field only accepts prices "
            "with `type=recurring`.",
            param=param,
        )
    return price


def priced(world: "World", wanted: Json, param: str) -> Json:
    """The price an item asks for: by id, or made on the spot from `price_data`."""
    if wanted.get("price"):
        return usable_price(world, wanted["price"], f"{param}[price]")
    if wanted.get("price_data"):
        return price_from_data(world, wanted["price_data"])
    raise InvalidRequest(
        f"Missing required param: {param}[price].",
        code="parameter_missing",
        param=f"{param}[price]",
    )


def price_from_data(world: "World", data: Json) -> Json:
    amount = data.get("unit_amount")
    every = data.get("recurring")
    price = world.new(
        "price",
        active=False,  # made for this use only
        currency=data["currency"],
        product=data["product"],
        recurring={
            "interval": every["interval"],
            "interval_count": every.get("interval_count", 1),
            "meter": None,
            "trial_period_days": None,
            "usage_type": "licensed",
        }
        if every
        else None,
        type="recurring" if every else "one_time",
        unit_amount=amount,
        unit_amount_decimal=str(data.get("unit_amount_decimal", amount)),
    )
    world.state.reindex(price)
    return price


def new_item(world: "World", sub_id: str, price: Json, wanted: Json) -> Json:
    item = blank("subscription_item")
    metered = price["recurring"]["usage_type"] == "metered"
    item.update(
        id=world.ids.new("subscription_item"),
        created=world.now(),
        metadata={k: v for k, v in (wanted.get("metadata") or {}).items() if v is not None},
        price=price["id"],
        subscription=sub_id,
    )
    world.item_owners[item["id"]] = sub_id
    if metered:
        del item["quantity"]
    else:
        item["quantity"] = wanted.get("quantity", 1)
    return item


def check_together(world: "World", held: list[Json], *, flexible: bool) -> str:
    """Refuse combinations that Stripe refuses; gives the currency."""
    if not held:
        raise InvalidRequest("Missing required param: items.", code="parameter_missing",
                             param="items")  # fmt: skip
    if len(held) > MAX_ITEMS:
        raise InvalidRequest(f"You can have up to {MAX_ITEMS} items.", param="items")
    prices = [world.get("price", item["price"]) for item in held]
    if len({price["currency"] for price in prices}) > 1:
        raise InvalidRequest(
            "All prices on a subscription must have the same `currency`.", param="items"
        )
    if len({price["id"] for price in prices}) < len(prices):
        raise InvalidRequest(
            f"Cannot add multiple subscription items with the same plan: {prices[0]['id']}",
            param="items",
        )
    cycles = {(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices}
    if len(cycles) > 1 and not flexible:
        raise InvalidRequest(
            "All prices on a subscription must have the same `recurring.interval` and "
            "`recurring.interval_count`.",
            param="items",
        )
    currency: str = prices[0]["currency"]
    return currency


def cycle(world: "World", item: Json) -> tuple[str, int]:
    every = world.get("price", item["price"])["recurring"]
    return every["interval"], every["interval_count"]


def set_period(world: "World", sub: Json, item: Json, moment: int) -> None:
    """Give an item the period, counted from the subscription's anchor, that holds `moment`."""
    interval, count = cycle(world, item)
    start, end = period_at(sub["billing_cycle_anchor"], interval, count, moment)
    item["current_period_start"], item["current_period_end"] = start, end


def is_free(world: "World", held: list[Json]) -> bool:
    return all(
        amounts.total(world.get("price", item["price"]), item.get("quantity") or 0) == 0
        for item in held
    )


def full_lines(world: "World", sub: Json, held: list[Json]) -> list[Json]:
    """One line for the whole current period of each item."""
    return [
        lines.for_item(
            world,
            sub,
            item,
            start=item["current_period_start"],
            end=item["current_period_end"],
        )
        for item in held
    ]

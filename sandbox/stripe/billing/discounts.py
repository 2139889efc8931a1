"""Coupons at work: taking one on, what it takes off an invoice, and when it is used up."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing.amounts import rounded
from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.periods import shifted

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


def usable_coupon(world: "World", id: str, param: str) -> Json:
    coupon = world.find("coupon", id)
    if coupon is None or coupon.get("_deleted"):
        raise Missing.thing("coupon", id, param)
    if not is_valid(world, coupon):
        raise InvalidRequest(f"Coupon expired: {id}", code="coupon_expired", param=param)
    return coupon


def is_valid(world: "World", coupon: Json) -> bool:
    redeem_by, most = coupon["redeem_by"], coupon["max_redemptions"]
    return (redeem_by is None or redeem_by > world.now()) and (
        most is None or coupon["times_redeemed"] < most
    )


def usable_code(world: "World", id: str, param: str) -> Json:
    code = world.find("promotion_code", id)
    if code is None:
        raise Missing.thing("promotion code", id, param)
    if not code_is_valid(world, code):
        raise InvalidRequest(
            "This promotion code cannot be redeemed because it is inactive or used up.",
            code="promotion_code_expired" if not code["active"] else None,
            param=param,
        )
    return code


def code_is_valid(world: "World", code: Json) -> bool:
    most, ends = code["max_redemptions"], code["expires_at"]
    coupon = world.find("coupon", code["promotion"]["coupon"])
    return bool(
        code["active"]
        and (ends is None or ends > world.now())
        and (most is None or code["times_redeemed"] < most)
        and coupon
        and is_valid(world, coupon)
    )


def find_active(world: "World", text: str) -> Json | None:
    """By what a customer types; case does not matter."""
    for key in world.state.of_kind("promotion_code"):
        code = world.state.objects[key]
        if code["_key"] == text.strip().upper() and code_is_valid(world, code):
            return code
    return None


def take_on(
    world: "World",
    wanted: list[Json],
    *,
    customer: str,
    subscription: str | None = None,
    item: str | None = None,
    param: str = "discounts",
) -> list[str]:
    """Redeem coupons and codes for an owner; gives the ids of its discounts, old and new."""
    ids: list[str] = []
    for index, entry in enumerate(wanted):
        where = f"{param}[{index}]"
        if entry.get("discount"):
            ids.append(world.get("discount", entry["discount"], param=where)["id"])
            continue
        code = None
        if entry.get("promotion_code"):
            code = usable_code(world, entry["promotion_code"], f"{where}[promotion_code]")
            coupon = world.get("coupon", code["promotion"]["coupon"])
        else:
            coupon = usable_coupon(world, entry["coupon"], f"{where}[coupon]")
        ids.append(_redeem(world, coupon, code, customer, subscription, item)["id"])
    return ids


def _redeem(
    world: "World",
    coupon: Json,
    code: Json | None,
    customer: str,
    subscription: str | None,
    item: str | None,
) -> Json:
    world.edit(coupon)["times_redeemed"] += 1
    coupon["valid"] = is_valid(world, coupon)
    if code:
        world.edit(code)["times_redeemed"] += 1
        code["active"] = code["active"] and (
            code["max_redemptions"] is None or code["times_redeemed"] < code["max_redemptions"]
        )
    end = None
    if coupon["duration"] == "repeating":
        end = shifted(world.now(), "month", coupon["duration_in_months"])
    discount = world.new(
        "discount",
        customer=customer,
        subscription=subscription,
        subscription_item=item,
        promotion_code=code["id"] if code else None,
        start=world.now(),
        end=end,
        source={"coupon": coupon["id"], "type": "coupon"},
    )
    world.emit("customer.discount.created", discount)
    return discount


def coupon_of(world: "World", discount: Json) -> Json:
    return world.get("coupon", discount["source"]["coupon"])


def in_force(world: "World", ids: list[str]) -> list[Json]:
    """The discounts that still apply now."""
    found = [world.find("discount", id) for id in ids]
    return [d for d in found if d and (d["end"] is None or d["end"] > world.now())]


def taken_off(coupon: Json, amount: int, currency: str) -> int:
    """How much a coupon takes off an amount; never more than the amount itself."""
    if amount <= 0:
        return 0
    if coupon["percent_off"] is not None:
        return rounded(Decimal(amount) * Decimal(str(coupon["percent_off"])) / 100)
    if coupon["currency"] == currency:
        return min(amount, int(coupon["amount_off"]))
    return 0


def percent_left(world: "World", ids: list[str]) -> Decimal:
    """What percentages leave of an amount: prorations are made of discounted amounts."""
    left = Decimal(1)
    for discount in in_force(world, ids):
        percent = coupon_of(world, discount)["percent_off"]
        if percent is not None:
            left *= 1 - Decimal(str(percent)) / 100
    return left


def used_up(world: "World", ids: list[str]) -> list[str]:
    """Drop what was for one invoice only or has ended; gives the ids that stay."""
    staying = []
    live = {d["id"] for d in in_force(world, ids)}
    for id in ids:
        discount = world.find("discount", id)
        if discount is None:
            continue
        if id in live and coupon_of(world, discount)["duration"] != "once":
            staying.append(id)
        else:
            world.emit("customer.discount.deleted", discount)
    return staying

"""Coupons and promotion codes."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import discounts
from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import page
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


@route("POST", "/v1/coupons", "CouponCreateParams")
def create_coupon(world: "World", params: Json) -> Json:
    if ("percent_off" in params) == ("amount_off" in params):
        raise InvalidRequest("Must provide percent_off or amount_off.")
    if "amount_off" in params and "currency" not in params:
        raise InvalidRequest("You must pass currency when passing amount_off", param="currency")
    duration = params.get("duration", "once")
    if duration == "repeating" and not params.get("duration_in_months"):
        raise InvalidRequest("Must provide duration_in_months for repeating coupons.",
                             param="duration_in_months")  # fmt: skip
    id = params.get("id")
    if id and world.find("coupon", id):
        raise InvalidRequest("Coupon already exists.", code="resource_already_exists")
    coupon = world.new(
        "coupon", id=id, duration=duration, metadata=merged(None, params),
        **{
            name: params[name]
            for name in ("amount_off", "currency", "duration_in_months", "max_redemptions",
                         "name", "percent_off", "redeem_by")
            if name in params
        },
    )  # fmt: skip
    if params.get("applies_to"):
        coupon["_applies_to"] = params["applies_to"]
    world.emit("coupon.created", coupon)
    return render(world, coupon)


def _present(world: "World", id: str) -> Json:
    coupon = world.find("coupon", id)
    if coupon is None or coupon.get("_deleted"):
        raise Missing.thing("coupon", id)
    return coupon


@route("GET", "/v1/coupons/{id}", "CouponRetrieveParams")
def retrieve_coupon(world: "World", params: Json, id: str) -> Json:
    return render(world, _present(world, id))


@route("POST", "/v1/coupons/{id}", "CouponUpdateParams")
def update_coupon(world: "World", params: Json, id: str) -> Json:
    coupon = _present(world, id)
    before = world.public(coupon)
    world.edit(coupon)["metadata"] = merged(coupon["metadata"], params)
    coupon["name"] = params.get("name", coupon["name"])
    world.emit("coupon.updated", coupon, before=before)
    return render(world, coupon)


@route("DELETE", "/v1/coupons/{id}")
def delete_coupon(world: "World", params: Json, id: str) -> Json:
    """No new redemptions; whoever has it keeps it, so we keep what it says."""
    coupon = _present(world, id)
    world.edit(coupon).update(valid=False, _deleted=True)
    world.emit("coupon.deleted", coupon)
    return {"id": id, "object": "coupon", "deleted": True}


@route("GET", "/v1/coupons", "CouponListParams")
def list_coupons(world: "World", params: Json) -> Json:
    return page(
        world, "coupon", params, "/v1/coupons", wanted=lambda coupon: not coupon.get("_deleted")
    )


# --- promotion codes


@route("POST", "/v1/promotion_codes", "PromotionCodeCreateParams")
def create_code(world: "World", params: Json) -> Json:
    named = params["promotion"].get("coupon", "")
    coupon = discounts.usable_coupon(world, named, "promotion[coupon]")
    text = params.get("code") or world.ids.text(8).upper()
    if discounts.find_active(world, text):
        raise InvalidRequest(
            f"An active promotion code with `code: {text}` already exists.", param="code"
        )
    code = world.new(
        "promotion_code",
        active=params.get("active", True),
        code=text,
        customer=params.get("customer"),
        expires_at=params.get("expires_at"),
        max_redemptions=params.get("max_redemptions"),
        metadata=merged(None, params),
        promotion={"coupon": coupon["id"], "type": "coupon"},
    )
    code["restrictions"] = {**code["restrictions"], **(params.get("restrictions") or {})}
    code["_key"] = text.upper()
    world.state.reindex(code)
    world.emit("promotion_code.created", code)
    return render(world, code)


@route("GET", "/v1/promotion_codes/{id}", "PromotionCodeRetrieveParams")
def retrieve_code(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("promotion_code", id))


@route("POST", "/v1/promotion_codes/{id}", "PromotionCodeUpdateParams")
def update_code(world: "World", params: Json, id: str) -> Json:
    code = world.get("promotion_code", id)
    before = world.public(code)
    world.edit(code)["metadata"] = merged(code["metadata"], params)
    code["active"] = params.get("active", code["active"])
    world.emit("promotion_code.updated", code, before=before)
    return render(world, code)


@route("GET", "/v1/promotion_codes", "PromotionCodeListParams")
def list_codes(world: "World", params: Json) -> Json:
    def wanted(code: Json) -> bool:
        return (
            ("active" not in params or code["active"] == params["active"])
            and ("code" not in params or code["_key"] == params["code"].upper())
            and ("coupon" not in params or code["promotion"]["coupon"] == params["coupon"])
            and ("customer" not in params or code["customer"] == params["customer"])
        )

    return page(world, "promotion_code", params, "/v1/promotion_codes", wanted=wanted)

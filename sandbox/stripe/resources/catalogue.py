"""Products and prices."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import page
from sandbox.stripe.rendering import plan_of, render
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

FIELDS = ("active", "default_price", "description", "images", "marketing_features", "name",
          "package_dimensions", "shippable", "statement_descriptor", "tax_code", "unit_label",
          "url")  # fmt: skip


@route("POST", "/v1/products", "ProductCreateParams")
def create_product(world: "World", params: Json) -> Json:
    id = params.get("id")
    if id and world.find("product", id):
        raise InvalidRequest("Product already exists.", code="resource_already_exists", param="id")
    product = world.new(
        "product", id=id, updated=world.now(), metadata=merged(None, params),
        **{name: params[name] for name in FIELDS if name in params},
    )  # fmt: skip
    world.emit("product.created", product)
    if params.get("default_price_data"):
        price = make_price(world, {**params["default_price_data"], "product": product["id"]})
        product["default_price"] = price["id"]
    return render(world, product)


@route("GET", "/v1/products/{id}", "ProductRetrieveParams")
def retrieve_product(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("product", id))


@route("POST", "/v1/products/{id}", "ProductUpdateParams")
def update_product(world: "World", params: Json, id: str) -> Json:
    product = world.get("product", id)
    before = world.public(product)
    world.edit(product).update({name: params[name] for name in FIELDS if name in params})
    product["metadata"] = merged(product["metadata"], params)
    changed = world.public(product) != before
    if changed:
        product["updated"] = world.now()
        world.emit("product.updated", product, before=before)
    return render(world, product)


@route("DELETE", "/v1/products/{id}")
def delete_product(world: "World", params: Json, id: str) -> Json:
    product = world.get("product", id)
    if world.state.where("price", "product", id):
        raise InvalidRequest(
            "This product cannot be deleted because it has one or more user-created prices."
        )
    world.state.remove(product)
    world.emit("product.deleted", product)
    return {"id": id, "object": "product", "deleted": True}


@route("GET", "/v1/products", "ProductListParams")
def list_products(world: "World", params: Json) -> Json:
    ids = set(params.get("ids") or [])

    def wanted(product: Json) -> bool:
        return ("active" not in params or product["active"] == params["active"]) and (
            not ids or product["id"] in ids
        )

    return page(world, "product", params, "/v1/products", wanted=wanted)


# --- prices


def make_price(world: "World", params: Json) -> Json:
    if params.get("product_data"):
        named = {"name": params["product_data"]["name"], "metadata":
                 params["product_data"].get("metadata", {})}  # fmt: skip
        product = create_product(world, named)["id"]
    else:
        product = world.get("product", params.get("product") or "", param="product")["id"]
    tiers = params.get("tiers")
    amount, exact = params.get("unit_amount"), params.get("unit_amount_decimal")
    if amount is None and exact is None and not tiers:
        raise InvalidRequest(
            "Missing required param: unit_amount.", code="parameter_missing", param="unit_amount"
        )
    if exact is None and amount is not None:
        exact = str(amount)
    elif exact is not None and Decimal(exact) == int(Decimal(exact)):
        amount = int(Decimal(exact))
    price = world.new(
        "price",
        active=params.get("active", True),
        billing_scheme="tiered" if tiers else "per_unit",
        currency=params["currency"],
        metadata=merged(None, params),
        nickname=params.get("nickname"),
        product=product,
        recurring=_recurring(params.get("recurring")),
        tax_behavior=params.get("tax_behavior", "unspecified"),
        tiers_mode=params.get("tiers_mode"),
        type="recurring" if params.get("recurring") else "one_time",
        unit_amount=amount,
        unit_amount_decimal=exact,
    )
    if tiers:
        price["_tiers"] = [_tier(tier) for tier in tiers]
    world.state.reindex(price)
    _set_lookup_key(world, price, params)
    _tell(world, price, "created")
    return price


def _recurring(every: Json | None) -> Json | None:
    if every is None:
        return None
    return {
        "interval": every["interval"],
        "interval_count": every.get("interval_count", 1),
        "meter": every.get("meter"),
        "trial_period_days": every.get("trial_period_days"),
        "usage_type": every.get("usage_type", "licensed"),
    }


def _tier(tier: Json) -> Json:
    unit, flat = tier.get("unit_amount"), tier.get("flat_amount")
    return {
        "flat_amount": flat,
        "flat_amount_decimal": None if flat is None else str(flat),
        "unit_amount": unit,
        "unit_amount_decimal": tier.get("unit_amount_decimal", None if unit is None else str(unit)),
        "up_to": None if tier["up_to"] == "inf" else tier["up_to"],
    }


def _set_lookup_key(world: "World", price: Json, params: Json) -> None:
    if "lookup_key" not in params:
        return
    key = params["lookup_key"]
    holders = [p for p in world.state.each("price", "lookup_key", key) if p is not price]
    if holders and not params.get("transfer_lookup_key"):
        raise InvalidRequest(
            f"A price (`{holders[0]['id']}`) already uses that lookup key.",
            code="resource_already_exists",
            param="lookup_key",
        )
    for holder in holders:
        before = world.public(holder)
        world.edit(holder)["lookup_key"] = None
        world.state.reindex(holder)
        _tell(world, holder, "updated", before)
    price["lookup_key"] = key
    world.state.reindex(price)


def _tell(world: "World", price: Json, what: str, before: Json | None = None) -> None:
    """Recurring prices still have their legacy twin, which has events of its own."""
    if price["recurring"]:
        world.emit(f"plan.{what}", plan_of(price), before=before and plan_of(before))
    world.emit(f"price.{what}", price, before=before)


@route("POST", "/v1/prices", "PriceCreateParams")
def create_price(world: "World", params: Json) -> Json:
    return render(world, make_price(world, params))


@route("GET", "/v1/prices/{id}", "PriceRetrieveParams")
def retrieve_price(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("price", id))


@route("POST", "/v1/prices/{id}", "PriceUpdateParams")
def update_price(world: "World", params: Json, id: str) -> Json:
    price = world.get("price", id)
    before = world.public(price)
    world.edit(price)
    for name in ("active", "nickname", "tax_behavior"):
        if name in params:
            price[name] = params[name]
    price["metadata"] = merged(price["metadata"], params)
    product = world.find("product", price["product"])
    if params.get("active") is False and product and product["default_price"] == id:
        raise InvalidRequest(
            "This price cannot be archived because it is the default price of its product."
        )
    _set_lookup_key(world, price, params)
    _tell(world, price, "updated", before)
    return render(world, price)


@route("GET", "/v1/prices", "PriceListParams")
def list_prices(world: "World", params: Json) -> Json:
    lookup = params.get("lookup_keys")
    every = params.get("recurring") or {}

    def wanted(price: Json) -> bool:
        return (
            ("active" not in params or price["active"] == params["active"])
            and ("currency" not in params or price["currency"] == params["currency"])
            and ("type" not in params or price["type"] == params["type"])
            and (not lookup or price["lookup_key"] in lookup)
            and all((price["recurring"] or {}).get(name) == every[name] for name in every)
        )

    keys = world.state.where("price", "product", params["product"]) if "product" in params else None
    return page(world, "price", params, "/v1/prices", keys=keys, wanted=wanted)

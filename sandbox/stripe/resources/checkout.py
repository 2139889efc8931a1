"""Checkout sessions, as the API makes and shows them."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import checkout as billing
from sandbox.stripe.billing import customers as people
from sandbox.stripe.billing import discounts, items, lines
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import list_page, page
from sandbox.stripe.rendering import expand, render
from sandbox.stripe.routing import route
from sandbox.stripe.shapes import blank
from sandbox.stripe.versions import before_basil

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

COPIED = ("allow_promotion_codes", "billing_address_collection", "cancel_url",
          "client_reference_id", "customer_creation", "customer_email", "locale",
          "payment_method_collection", "submit_type", "success_url", "ui_mode")  # fmt: skip


@route("POST", "/v1/checkout/sessions", "checkout.SessionCreateParams")
def create(world: "World", params: Json) -> Json:
    mode = params.get("mode", "payment")
    customer = None
    if params.get("customer"):
        customer = people.present(world, params["customer"])
        world.follow(customer)
        if "customer_email" in params:
            raise InvalidRequest("You may only specify one of these parameters: customer, "
                                 "customer_email.")  # fmt: skip
    if params.get("ui_mode", "hosted_page") == "hosted_page" and not params.get("success_url"):
        raise InvalidRequest("Missing required param: success_url.", code="parameter_missing",
                             param="success_url")  # fmt: skip
    session = world.new(
        "checkout.session",
        currency=params.get("currency"),
        customer=customer["id"] if customer else None,
        expires_at=params.get(
            "expires_at", world.now() + int(world.behaviour.session_hours * 3600)
        ),
        metadata=merged(None, params),
        mode=mode,
        payment_status="no_payment_required" if mode == "setup" else "unpaid",
        status="open",
        _line_items=[],
        _subscription_data=params.get("subscription_data") or {},
        _discounts=params.get("discounts") or [],
        _older=before_basil(world.caller.version or world.behaviour.api_version),
        **{name: params[name] for name in COPIED if name in params},
    )
    session["url"] = f"{world.base_url}/c/pay/{session['id']}"
    if params.get("automatic_tax"):
        session["automatic_tax"] = {
            **session["automatic_tax"], "enabled": params["automatic_tax"]["enabled"],
        }  # fmt: skip
    world.state.reindex(session)
    if mode != "setup":
        _take_lines(world, session, params)
        billing.add_up(world, session)
    return render(world, session)


def _take_lines(world: "World", session: Json, params: Json) -> None:
    if not params.get("line_items"):
        raise InvalidRequest("Missing required param: line_items.", code="parameter_missing",
                             param="line_items")  # fmt: skip
    if session["allow_promotion_codes"] and session["_discounts"]:
        raise InvalidRequest("You may only specify one of these parameters: "
                             "allow_promotion_codes, discounts.")  # fmt: skip
    for index, wanted in enumerate(params["line_items"]):
        where = f"line_items[{index}]"
        price = _line_price(world, wanted, where, subscription=session["mode"] == "subscription")
        line = blank("item")
        line.update(
            id=world.ids.new("item"),
            currency=price["currency"],
            description=lines.product_name(world, price),
            metadata={},
            price=price["id"],
            quantity=wanted.get("quantity", 1),
            taxes=[],
        )
        session["_line_items"].append(line)
    session["currency"] = session["_line_items"][0]["currency"]
    if session["mode"] == "subscription":
        held = [world.get("price", line["price"]) for line in session["_line_items"]]
        if not any(price["recurring"] for price in held):
            raise InvalidRequest(
                "You must provide at least one recurring price in `subscription` mode when using "
                "prices.",
                param="line_items",
            )
    for index, entry in enumerate(session["_discounts"]):
        if entry.get("coupon"):
            discounts.usable_coupon(world, entry["coupon"], f"discounts[{index}][coupon]")
        else:
            where = f"discounts[{index}][promotion_code]"
            discounts.usable_code(world, entry.get("promotion_code", ""), where)


def _line_price(world: "World", wanted: Json, where: str, *, subscription: bool) -> Json:
    if wanted.get("price_data"):
        return items.price_from_data(world, wanted["price_data"])
    price = world.get("price", wanted.get("price", ""), param=f"{where}[price]")
    if not price["active"]:
        raise InvalidRequest(
            "The price specified is inactive. This field only accepts active prices.",
            param=f"{where}[price]",
        )
    if price["recurring"] and not subscription:
        raise InvalidRequest(
            "You specified `payment` mode but passed a recurring price. Either switch to "
            "`subscription` mode or use only one-time prices.",
            param=f"{where}[price]",
        )
    return price


@route("GET", "/v1/checkout/sessions/{id}", "checkout.SessionRetrieveParams")
def retrieve(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("checkout.session", id, noun="checkout.session"))


@route("POST", "/v1/checkout/sessions/{id}", "checkout.SessionUpdateParams")
def update(world: "World", params: Json, id: str) -> Json:
    session = world.get("checkout.session", id, noun="checkout.session")
    world.edit(session)["metadata"] = merged(session["metadata"], params)
    return render(world, session)


@route("GET", "/v1/checkout/sessions", "checkout.SessionListParams")
def list_all(world: "World", params: Json) -> Json:
    def wanted(session: Json) -> bool:
        return all(
            params.get(name) in (None, session[name])
            for name in ("customer", "payment_intent", "status", "subscription")
        )

    keys = None
    for field in ("customer", "subscription", "payment_intent"):
        if field in params:
            keys = world.state.where("checkout.session", field, params[field])
            break
    return page(world, "checkout.session", params, "/v1/checkout/sessions", keys=keys,
                wanted=wanted)  # fmt: skip


@route("GET", "/v1/checkout/sessions/{id}/line_items", "checkout.SessionLineItemListParams")
def list_lines(world: "World", params: Json, id: str) -> Json:
    session = world.get("checkout.session", id, noun="checkout.session")
    shown = expand(world, render(world, session), ["line_items"])["line_items"]["data"]
    return list_page(shown, params, f"/v1/checkout/sessions/{id}/line_items")


@route("POST", "/v1/checkout/sessions/{id}/expire", "checkout.SessionExpireParams")
def expire_now(world: "World", params: Json, id: str) -> Json:
    session = world.get("checkout.session", id, noun="checkout.session")
    if session["status"] != "open":
        raise InvalidRequest(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of `{session['status']}`."
        )
    billing.expire(world, session)
    return render(world, session)

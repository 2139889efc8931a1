"""Subscriptions and their items."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import changes, discounts, methods, proration, renewals
from sandbox.stripe.billing import subscriptions as billing
from sandbox.stripe.billing.customers import present
from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import list_page, page, within
from sandbox.stripe.rendering import render, subscription_item
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

ENDED = ("canceled", "incomplete_expired")


@route("POST", "/v1/subscriptions", "SubscriptionCreateParams")
def create(world: "World", params: Json) -> Json:
    customer = present(world, params.get("customer") or "")
    return render(world, billing.start(world, customer, params))


@route("GET", "/v1/subscriptions/{id}", "SubscriptionRetrieveParams")
def retrieve(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("subscription", id))


@route("GET", "/v1/subscriptions", "SubscriptionListParams")
def list_all(world: "World", params: Json) -> Json:
    status, price = params.get("status"), params.get("price")
    starts, ends = params.get("current_period_start"), params.get("current_period_end")

    def wanted(sub: Json) -> bool:
        if status == "ended":
            fits = sub["status"] in ENDED
        else:
            fits = status == "all" or (
                sub["status"] not in ENDED if status is None else sub["status"] == status
            )
        held = sub["items"]
        return (
            fits
            and (price is None or any(item["price"] == price for item in held))
            and (starts is None or any(within(i["current_period_start"], starts) for i in held))
            and (ends is None or any(within(i["current_period_end"], ends) for i in held))
            and params.get("collection_method") in (None, sub["collection_method"])
            and params.get("test_clock") in (None, sub["test_clock"])
        )

    keys = None
    if "customer" in params:
        keys = world.state.where("subscription", "customer", params["customer"])
    return page(world, "subscription", params, "/v1/subscriptions", keys=keys, wanted=wanted)


@route("POST", "/v1/subscriptions/{id}", "SubscriptionUpdateParams")
def update(world: "World", params: Json, id: str) -> Json:
    sub = world.get("subscription", id)
    world.follow(world.get("customer", sub["customer"]))
    _check_allowed(sub, params)
    before = world.public(sub)
    with world.events_in_order(changes.CHANGE_ORDER):
        _simple(world, world.edit(sub), params)
        _planned_end(world, sub, params)
        if {"items", "trial_end", "billing_cycle_anchor"} & params.keys() or params.get(
            "proration_behavior"
        ) == "always_invoice":
            changes.change(
                world,
                sub,
                wanted=params.get("items"),
                proration_behavior=params.get("proration_behavior", "create_prorations"),
                payment_behavior=params.get("payment_behavior", "allow_incomplete"),
                moment=params.get("proration_date"),
                anchor_now=params.get("billing_cycle_anchor") == "now",
                trial_end=params.get("trial_end"),
            )
        world.emit("customer.subscription.updated", sub, before=before)
    return render(world, sub)


def _check_allowed(sub: Json, params: Json) -> None:
    if sub["status"] in ENDED and params.keys() - {"metadata", "cancellation_details"}:
        raise InvalidRequest(
            "A canceled subscription can only update its cancellation_details and metadata."
        )
    billing_changes = params.keys() & {"items", "trial_end", "billing_cycle_anchor"}
    if sub["status"] == "incomplete" and billing_changes:
        raise InvalidRequest(
            "This subscription cannot be updated in this way because its first invoice is not "
            "paid: status is `incomplete`."
        )
    planned = params.keys() & {"cancel_at", "cancel_at_period_end"}
    if sub["schedule"] and planned:
        raise InvalidRequest(
            f"The subscription is managed by the subscription schedule `{sub['schedule']}`, and "
            "updating any cancelation behavior directly is not allowed. Please update the schedule "
            "instead.",
            param=min(planned),
        )


def _simple(world: "World", sub: Json, params: Json) -> None:
    """What changes nothing but itself."""
    for name in ("collection_method", "days_until_due", "description", "pause_collection",
                 "trial_settings"):  # fmt: skip
        if name in params:
            sub[name] = params[name]
    if sub["pause_collection"]:
        sub["pause_collection"] = {"resumes_at": None, **sub["pause_collection"]}
    sub["metadata"] = merged(sub["metadata"], params)
    if "default_payment_method" in params:
        wanted = params["default_payment_method"]
        customer = world.get("customer", sub["customer"])
        method = methods.resolve(world, wanted, "default_payment_method") if wanted else None
        sub["default_payment_method"] = (
            methods.attach(world, method, customer)["id"] if method else None
        )
    if params.get("automatic_tax"):
        sub["automatic_tax"] = {
            **sub["automatic_tax"], "enabled": params["automatic_tax"]["enabled"],
        }  # fmt: skip
    if params.get("payment_settings"):
        sub["payment_settings"] = {**sub["payment_settings"], **params["payment_settings"]}
    if params.get("cancellation_details"):
        sub["cancellation_details"] = {
            **sub["cancellation_details"], **params["cancellation_details"],
        }  # fmt: skip
    if "discounts" in params:
        _set_discounts(world, sub, params["discounts"] or [])


def _set_discounts(world: "World", sub: Json, wanted: list[Json]) -> None:
    had = sub["discounts"]
    sub["discounts"] = discounts.take_on(
        world, wanted, customer=sub["customer"], subscription=sub["id"]
    )
    for id in had:
        if id not in sub["discounts"]:
            world.emit("customer.discount.deleted", world.get("discount", id))


def _planned_end(world: "World", sub: Json, params: Json) -> None:
    if params.get("cancel_at_period_end") and params.get("cancel_at"):
        raise InvalidRequest("You cannot set both `cancel_at` and `cancel_at_period_end`.")
    now = world.now()
    if "cancel_at" in params:
        at = params["cancel_at"]
        billing.plan_end(sub, now=now, at=billing.resolve_end(sub, at) if at else None)
    elif params.get("cancel_at_period_end"):
        if not sub["cancel_at_period_end"]:
            billing.plan_end(sub, now=now, at_period_end=True)
    elif "cancel_at_period_end" in params and sub["cancel_at_period_end"]:
        billing.plan_end(sub, now=now)


@route("DELETE", "/v1/subscriptions/{id}", "SubscriptionCancelParams")
def cancel(world: "World", params: Json, id: str) -> Json:
    sub = world.get("subscription", id)
    world.follow(world.get("customer", sub["customer"]))
    billing.cancel(world, sub, params)
    return render(world, sub)


@route("POST", "/v1/subscriptions/{id}/pause", "SubscriptionPauseParams")
def pause(world: "World", params: Json, id: str) -> Json:
    sub = world.get("subscription", id)
    world.follow(world.get("customer", sub["customer"]))
    if sub["status"] not in ("active", "trialing", "past_due"):
        raise InvalidRequest(f"A subscription with status `{sub['status']}` cannot be paused.")
    before = world.public(sub)
    renewals.pause(world, sub, why="pause_requested")
    unused = (params.get("bill_for") or {}).get("unused_time_from") or {"type": "now"}
    if unused["type"] != "none" and before["status"] == "active":
        for item in sub["items"]:
            since = item["current_period_start"]
            proration.credit(world, sub, item, world.now() if unused["type"] == "now" else since)
    if params.get("invoicing_behavior") == "invoice":
        billing.final_invoice(world, sub)
    world.emit("customer.subscription.paused", sub)
    world.emit("customer.subscription.updated", sub, before=before)
    return render(world, sub)


@route("POST", "/v1/subscriptions/{id}/resume", "SubscriptionResumeParams")
def resume(world: "World", params: Json, id: str) -> Json:
    sub = world.get("subscription", id)
    world.follow(world.get("customer", sub["customer"]))
    if sub["status"] != "paused":
        raise InvalidRequest("You can only resume a paused subscription.")
    anchor = params.get("billing_cycle_anchor", "now")
    renewals.resume(
        world,
        world.edit(sub),
        anchor=anchor["type"] if isinstance(anchor, dict) else anchor,
        prorate=params.get("proration_behavior", "create_prorations") != "none",
        on_success=params.get("payment_behavior") == "resume_on_payment_success",
    )
    return render(world, sub)


@route("DELETE", "/v1/subscriptions/{id}/discount")
def delete_discount(world: "World", params: Json, id: str) -> Json:
    sub = world.get("subscription", id)
    if not sub["discounts"]:
        raise Missing.thing("discount", id)
    discount = world.get("discount", sub["discounts"][0])
    before = world.public(sub)
    _set_discounts(world, world.edit(sub), [])
    world.emit("customer.subscription.updated", sub, before=before)
    return {**render(world, discount), "deleted": True}


# --- items


def _owner(world: "World", item_id: str) -> tuple[Json, Json]:
    """The subscription that holds an item, and the item."""
    sub = world.find("subscription", world.item_owners.get(item_id))
    for item in sub["items"] if sub else []:
        if item["id"] == item_id and sub:
            return sub, item
    raise Missing.thing("subscription item", item_id, "item")


@route("GET", "/v1/subscription_items", "SubscriptionItemListParams")
def list_items(world: "World", params: Json) -> Json:
    sub = world.get("subscription", params["subscription"], param="subscription")
    shown = [subscription_item(world, item) for item in sub["items"]]
    return list_page(shown, params, f"/v1/subscription_items?subscription={sub['id']}")


@route("GET", "/v1/subscription_items/{id}", "SubscriptionItemRetrieveParams")
def retrieve_item(world: "World", params: Json, id: str) -> Json:
    return subscription_item(world, _owner(world, id)[1])


def _through_update(world: "World", sub: Json, entry: Json, params: Json) -> None:
    options = ("proration_behavior", "proration_date", "payment_behavior")
    given = {name: params[name] for name in options if name in params}
    update(world, {"items": [entry], **given}, sub["id"])


@route("POST", "/v1/subscription_items", "SubscriptionItemCreateParams")
def create_item(world: "World", params: Json) -> Json:
    sub = world.get("subscription", params["subscription"], param="subscription")
    known = {item["id"] for item in sub["items"]}
    names = ("price", "price_data", "quantity", "metadata", "discounts")
    _through_update(world, sub, {n: params[n] for n in names if n in params}, params)
    return next(subscription_item(world, i) for i in sub["items"] if i["id"] not in known)


@route("POST", "/v1/subscription_items/{id}", "SubscriptionItemUpdateParams")
def update_item(world: "World", params: Json, id: str) -> Json:
    sub, _ = _owner(world, id)
    names = ("price", "price_data", "quantity", "metadata", "discounts")
    _through_update(world, sub, {"id": id, **{n: params[n] for n in names if n in params}}, params)
    return subscription_item(world, _owner(world, id)[1])


@route("DELETE", "/v1/subscription_items/{id}", "SubscriptionItemDeleteParams")
def delete_item(world: "World", params: Json, id: str) -> Json:
    sub, _ = _owner(world, id)
    if len(sub["items"]) == 1:
        raise InvalidRequest(
            "A subscription must have at least one active plan. To cancel a subscription, please "
            "use the delete API endpoint on the subscription."
        )
    _through_update(world, sub, {"id": id, "deleted": True}, params)
    return {"id": id, "object": "subscription_item", "deleted": True}

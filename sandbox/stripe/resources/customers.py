"""Customers and their payment methods."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import collection, invoices, methods
from sandbox.stripe.billing import customers as people
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import page
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


@route("POST", "/v1/customers", "CustomerCreateParams")
def create(world: "World", params: Json) -> Json:
    if params.get("test_clock"):
        world.get("test_helpers.test_clock", params["test_clock"], noun="billing test clock",
                  param="test_clock")  # fmt: skip
    return render(world, people.make(world, params))


@route("GET", "/v1/customers/{id}", "CustomerRetrieveParams")
def retrieve(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("customer", id))


@route("POST", "/v1/customers/{id}", "CustomerUpdateParams")
def update(world: "World", params: Json, id: str) -> Json:
    customer = people.present(world, id, "id")
    world.follow(customer)
    before = world.public(customer)
    people.take(world, world.edit(customer), params)
    world.emit("customer.updated", customer, before=before)
    return render(world, customer)


@route("GET", "/v1/customers", "CustomerListParams")
def list_all(world: "World", params: Json) -> Json:
    email, clock = params.get("email"), params.get("test_clock")

    def wanted(customer: Json) -> bool:
        return (
            not customer.get("deleted")
            and (email is None or customer["email"] == email)
            and (clock is None or customer["test_clock"] == clock)
        )

    return page(world, "customer", params, "/v1/customers", wanted=wanted)


@route("DELETE", "/v1/customers/{id}")
def delete(world: "World", params: Json, id: str) -> Json:
    """Its subscriptions end at once; what remains is a tombstone."""
    customer = people.present(world, id, "id")
    world.follow(customer)
    for sub in world.state.each("subscription", "customer", id):
        if sub["status"] in (*collection.LIVE, "incomplete", "paused"):
            collection.end(world, world.edit(sub), reason="cancellation_requested")
    invoices.stop_collecting(world, world.state.each("invoice", "customer", id))
    for method in world.state.each("payment_method", "customer", id):
        people.detach(world, method)
    world.emit("customer.deleted", customer)
    tombstone = {"id": id, "object": "customer", "deleted": True}
    place = customer["_seq"]
    world.edit(customer).clear()
    customer.update(tombstone, _seq=place)
    return tombstone


# --- payment methods


@route("POST", "/v1/payment_methods", "PaymentMethodCreateParams")
def create_method(world: "World", params: Json) -> Json:
    """By test token only: `card[token]=tok_visa` and the like; real numbers are refused."""
    token = (params.get("card") or {}).get("token", "tok_visa")
    name = "pm_card_" + token.removeprefix("tok_")
    method = methods.resolve(world, name, "card[token]")
    method["metadata"] = merged(None, params)
    return render(world, method)


@route("GET", "/v1/payment_methods/{id}", "PaymentMethodRetrieveParams")
def retrieve_method(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("payment_method", id, noun="PaymentMethod"))


@route("POST", "/v1/payment_methods/{id}/attach", "PaymentMethodAttachParams")
def attach_method(world: "World", params: Json, id: str) -> Json:
    customer = people.present(world, params.get("customer") or "")
    world.follow(customer)
    method = methods.resolve(world, id)
    return render(world, methods.attach(world, method, customer))


@route("POST", "/v1/payment_methods/{id}/detach", "PaymentMethodDetachParams")
def detach_method(world: "World", params: Json, id: str) -> Json:
    method = world.get("payment_method", id, noun="PaymentMethod")
    if not method["customer"]:
        raise InvalidRequest(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible."
        )
    people.detach(world, method)
    return render(world, method)


def _methods_page(world: "World", params: Json, customer: str, url: str) -> Json:
    keys = world.state.where("payment_method", "customer", customer)
    kind = params.get("type")
    return page(
        world,
        "payment_method",
        params,
        url,
        keys=keys,
        wanted=lambda method: kind is None or method["type"] == kind,
    )


@route("GET", "/v1/payment_methods", "PaymentMethodListParams")
def list_methods(world: "World", params: Json) -> Json:
    return _methods_page(world, params, params.get("customer", ""), "/v1/payment_methods")


@route("GET", "/v1/customers/{id}/payment_methods", "CustomerPaymentMethodListParams")
def list_customer_methods(world: "World", params: Json, id: str) -> Json:
    people.present(world, id, "id")
    return _methods_page(world, params, id, f"/v1/customers/{id}/payment_methods")

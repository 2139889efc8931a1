"""Customers: making and changing them, and taking their payment methods away."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import methods
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.metadata import merged

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

TEXTS = ("address", "business_name", "description", "email", "individual_name", "name", "phone",
         "preferred_locales", "shipping", "tax_exempt", "balance", "next_invoice_sequence",
         "invoice_prefix")  # fmt: skip


def present(world: "World", id: str, param: str = "customer") -> Json:
    """A customer that still exists."""
    customer = world.get("customer", id, param=param)
    if customer.get("deleted"):
        raise InvalidRequest(
            f"No such customer: '{id}'; a similar object exists but was deleted.",
            code="resource_missing",
            param=param,
        )
    return customer


def take(world: "World", customer: Json, params: Json) -> None:
    for name in TEXTS:
        if name in params:
            customer[name] = params[name]
    customer["metadata"] = merged(customer["metadata"], params)
    settings = params.get("invoice_settings") or {}
    if "default_payment_method" in settings:
        wanted = settings["default_payment_method"]
        if wanted is not None:
            method = world.get("payment_method", wanted, noun="PaymentMethod",
                               param="invoice_settings[default_payment_method]")  # fmt: skip
            if method["customer"] != customer["id"]:
                raise InvalidRequest(
                    f"The customer does not have a payment method with the ID {wanted}. The "
                    "payment method must be attached to the customer.",
                    code="resource_missing",
                    param="invoice_settings[default_payment_method]",
                )
        customer["invoice_settings"] = {
            **customer["invoice_settings"],
            "default_payment_method": wanted,
        }


def make(world: "World", params: Json) -> Json:
    customer = world.new("customer", test_clock=params.get("test_clock"))
    world.follow(customer)
    customer["created"] = world.now()
    customer["invoice_prefix"] = world.ids.text(8).upper()
    take(world, customer, params)
    if params.get("payment_method"):
        method = methods.resolve(world, params["payment_method"])
        methods.attach(world, method, customer)
    world.emit("customer.created", customer)
    return customer


def detach(world: "World", method: Json) -> None:
    owner = world.find("customer", method["customer"])
    before = world.public(method)
    world.edit(method).update(customer=None, _used=True)
    world.state.reindex(method)
    world.emit("payment_method.detached", method, before=before)
    if owner and not owner.get("deleted"):
        settings = owner["invoice_settings"]
        if settings["default_payment_method"] == method["id"]:
            owner_before = world.public(owner)
            world.edit(owner)["invoice_settings"] = {**settings, "default_payment_method": None}
            world.emit("customer.updated", owner, before=owner_before)

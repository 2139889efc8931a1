"""Invoices, their lines, their payments, and pending invoice items."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import (
    changes,
    collection,
    discounts,
    lines,
    methods,
    proration,
    renewals,
)
from sandbox.stripe.billing import invoices as billing
from sandbox.stripe.billing import subscriptions as starting
from sandbox.stripe.billing.customers import present
from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import list_page, page
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


def _held(world: "World", id: str) -> Json:
    invoice = world.get("invoice", id)
    world.follow(present(world, invoice["customer"]))
    return invoice


@route("GET", "/v1/invoices", "InvoiceListParams")
def list_all(world: "World", params: Json) -> Json:
    def wanted(invoice: Json) -> bool:
        return (
            params.get("status") in (None, invoice["status"])
            and params.get("collection_method") in (None, invoice["collection_method"])
            and params.get("customer") in (None, invoice["customer"])
        )

    keys = None
    if "subscription" in params:
        keys = world.state.where("invoice", "_subscription", params["subscription"])
    elif "customer" in params:
        keys = world.state.where("invoice", "customer", params["customer"])
    return page(world, "invoice", params, "/v1/invoices", keys=keys, wanted=wanted)


@route("POST", "/v1/invoices/create_preview", "InvoiceCreatePreviewParams")
def preview(world: "World", params: Json) -> Json:
    """What would be billed: the change is made, looked at, and undone."""
    with world.trial_run():
        invoice = _previewed(world, params)
        shown = render(world, invoice)
    return {**shown, "id": f"upcoming_in_1{world.ids.text(22)}"}


def _previewed(world: "World", params: Json) -> Json:
    details = params.get("subscription_details") or {}
    sub = world.find("subscription", params.get("subscription"))
    if sub is None:
        if "subscription" in params:
            raise Missing.thing("subscription", params["subscription"], "subscription")
        customer = present(world, params.get("customer") or "")
        wanted = {"items": details.get("items") or [], "payment_behavior": "default_incomplete"}
        trial = {"trial_end": details["trial_end"]} if "trial_end" in details else {}
        return world.get(
            "invoice", starting.start(world, customer, {**wanted, **trial})["latest_invoice"]
        )
    ends = sub["cancel_at"]
    if sub["status"] not in collection.LIVE or (ends and ends <= renewals.period_end(sub)):
        raise Missing(
            f"No upcoming invoices for customer: '{sub['customer']}'", code="invoice_upcoming_none"
        )
    world.follow(world.get("customer", sub["customer"]))
    known = set(world.state.where("invoice", "_subscription", sub["id"]))
    if "items" in details:
        changes.change(
            world,
            world.edit(sub),
            wanted=details["items"],
            proration_behavior=details.get("proration_behavior", "create_prorations"),
            payment_behavior="default_incomplete",
            moment=details.get("proration_date"),
            anchor_now=details.get("billing_cycle_anchor") == "now",
        )
    fresh = set(world.state.where("invoice", "_subscription", sub["id"])) - known
    if fresh:
        return world.state.objects[fresh.pop()]
    return renewals.next_invoice(world, sub)


@route("POST", "/v1/invoices", "InvoiceCreateParams")
def create(world: "World", params: Json) -> Json:
    sub = None
    if params.get("subscription"):
        sub = world.get("subscription", params["subscription"], param="subscription")
    customer = present(world, params.get("customer") or (sub["customer"] if sub else ""))
    world.follow(customer)
    waiting: list[Json] = []
    if params.get("pending_invoice_items_behavior", "include" if sub else "exclude") == "include":
        waiting = proration.pending_for(world, customer["id"], sub["id"] if sub else None)
    invoice = billing.draft(
        world,
        customer,
        reason="manual",
        currency=params.get("currency") or customer["currency"] or "usd",
        invoice_lines=[],
        subscription=sub,
        pending=waiting,
        auto_advance=params.get("auto_advance", False),
        metadata=merged(None, params),
        description=params.get("description"),
        collection_method=params.get("collection_method", "charge_automatically"),
    )
    invoice["_days_until_due"] = params.get("days_until_due")
    invoice["due_date"] = params.get("due_date")
    if invoice["auto_advance"]:
        invoice["automatically_finalizes_at"] = world.now() + world.behaviour.draft_seconds
    world.emit("invoice.created", invoice)
    return render(world, invoice)


@route("GET", "/v1/invoices/{id}", "InvoiceRetrieveParams")
def retrieve(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("invoice", id))


@route("POST", "/v1/invoices/{id}", "InvoiceUpdateParams")
def update(world: "World", params: Json, id: str) -> Json:
    invoice = _held(world, id)
    before = world.public(invoice)
    world.edit(invoice)["metadata"] = merged(invoice["metadata"], params)
    for name in ("description", "auto_advance", "collection_method", "due_date"):
        if name in params:
            invoice[name] = params[name]
    if params.get("auto_advance") and invoice["status"] == "draft":
        invoice["automatically_finalizes_at"] = world.now() + world.behaviour.draft_seconds
    if "discounts" in params:
        wanted = params["discounts"] or []
        invoice["discounts"] = discounts.take_on(world, wanted, customer=invoice["customer"])
        billing.add_up(world, invoice)
    world.emit("invoice.updated", invoice, before=before)
    return render(world, invoice)


@route("DELETE", "/v1/invoices/{id}")
def delete(world: "World", params: Json, id: str) -> Json:
    invoice = _held(world, id)
    if invoice["status"] != "draft":
        raise InvalidRequest("You can only delete draft invoices.")
    world.state.remove(invoice)
    world.emit("invoice.deleted", invoice)
    return {"id": id, "object": "invoice", "deleted": True}


@route("POST", "/v1/invoices/{id}/finalize", "InvoiceFinalizeInvoiceParams")
def finalize(world: "World", params: Json, id: str) -> Json:
    invoice = _held(world, id)
    if "auto_advance" in params:
        world.edit(invoice)["auto_advance"] = params["auto_advance"]
    with world.events_in_order(collection.COLLECTION_ORDER):
        collection.open_and_collect(world, invoice)
    return render(world, invoice)


@route("POST", "/v1/invoices/{id}/pay", "InvoicePayParams")
def pay(world: "World", params: Json, id: str) -> Json:
    invoice = _held(world, id)
    method = None
    if params.get("payment_method"):
        method = methods.resolve(world, params["payment_method"])
        methods.attach(world, method, world.get("customer", invoice["customer"]))
    with world.events_in_order(collection.COLLECTION_ORDER):
        collection.pay_by_hand(
            world, invoice, method=method, out_of_band=params.get("paid_out_of_band", False)
        )
    return render(world, invoice)


@route("POST", "/v1/invoices/{id}/void", "InvoiceVoidInvoiceParams")
def void(world: "World", params: Json, id: str) -> Json:
    invoice = _held(world, id)
    billing.void(world, invoice)
    collection.after_voiding(world, invoice)
    return render(world, invoice)


@route("POST", "/v1/invoices/{id}/mark_uncollectible", "InvoiceMarkUncollectibleParams")
def mark_uncollectible(world: "World", params: Json, id: str) -> Json:
    invoice = _held(world, id)
    billing.mark_uncollectible(world, invoice)
    collection.after_payment(world, invoice)
    return render(world, invoice)


@route("POST", "/v1/invoices/{id}/send", "InvoiceSendInvoiceParams")
def send(world: "World", params: Json, id: str) -> Json:
    invoice = _held(world, id)
    if invoice["status"] == "draft":
        collection.open_and_collect(world, invoice)
    else:
        world.emit("invoice.sent", invoice)
    return render(world, invoice)


@route("GET", "/v1/invoices/{id}/lines", "InvoiceLineItemListParams")
def list_lines(world: "World", params: Json, id: str) -> Json:
    return list_page(world.get("invoice", id)["_lines"], params, f"/v1/invoices/{id}/lines")


# --- payments of invoices


@route("GET", "/v1/invoice_payments", "InvoicePaymentListParams")
def list_payments(world: "World", params: Json) -> Json:
    paid_by = params.get("payment") or {}
    keys = None
    if "invoice" in params:
        keys = world.state.where("invoice_payment", "invoice", params["invoice"])
    elif paid_by.get("payment_intent"):
        keys = world.state.where("invoice_payment", "_intent", paid_by["payment_intent"])
    return page(
        world,
        "invoice_payment",
        params,
        "/v1/invoice_payments",
        keys=keys,
        wanted=lambda payment: params.get("status") in (None, payment["status"]),
    )


@route("GET", "/v1/invoice_payments/{id}", "InvoicePaymentRetrieveParams")
def retrieve_payment(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("invoice_payment", id))


# --- invoice items


@route("POST", "/v1/invoiceitems", "InvoiceItemCreateParams")
def create_item(world: "World", params: Json) -> Json:
    customer = present(world, params.get("customer") or "")
    world.follow(customer)
    price = None
    if (params.get("pricing") or {}).get("price"):
        price = world.get("price", params["pricing"]["price"], param="pricing[price]")
    quantity = params.get("quantity", 1)
    amount = params.get("amount", (price["unit_amount"] or 0) * quantity if price else 0)
    owner = params.get("subscription")
    item = world.new(
        "invoiceitem",
        amount=amount,
        net_amount=amount,
        currency=params.get("currency") or (price and price["currency"]) or "usd",
        customer=customer["id"],
        date=world.now(),
        description=params.get("description"),
        discounts=[],
        metadata=merged(None, params),
        parent={
            "subscription_details": {"subscription": owner, "subscription_item": None},
            "type": "subscription_details",
        }
        if owner
        else None,
        period=params.get("period") or {"start": world.now(), "end": world.now()},
        pricing=lines.pricing_of(price) if price else None,
        quantity=quantity,
        quantity_decimal=str(quantity),
        tax_rates=[],
        test_clock=customer["test_clock"],
    )
    if params.get("invoice"):
        invoice = world.edit(_held(world, params["invoice"]))
        item["invoice"] = invoice["id"]
        invoice["_lines"].append({**lines.for_invoice_item(world, item), "invoice": invoice["id"]})
        billing.add_up(world, invoice)
    world.emit("invoiceitem.created", item)
    return render(world, item)


@route("GET", "/v1/invoiceitems", "InvoiceItemListParams")
def list_items(world: "World", params: Json) -> Json:
    keys = None
    if "customer" in params:
        keys = world.state.where("invoiceitem", "customer", params["customer"])

    def wanted(item: Json) -> bool:
        return params.get("invoice") in (None, item["invoice"]) and (
            "pending" not in params or params["pending"] == (item["invoice"] is None)
        )

    return page(world, "invoiceitem", params, "/v1/invoiceitems", keys=keys, wanted=wanted)


@route("GET", "/v1/invoiceitems/{id}", "InvoiceItemRetrieveParams")
def retrieve_item(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("invoiceitem", id, noun="invoiceitem"))


@route("DELETE", "/v1/invoiceitems/{id}")
def delete_item(world: "World", params: Json, id: str) -> Json:
    item = world.get("invoiceitem", id, noun="invoiceitem")
    if item["invoice"]:
        raise InvalidRequest("This invoice item is already attached to an invoice.")
    world.state.remove(item)
    world.emit("invoiceitem.deleted", item)
    return {"id": id, "object": "invoiceitem", "deleted": True}

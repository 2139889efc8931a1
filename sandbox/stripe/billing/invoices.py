"""Invoices from draft to paid, void or written off. Collecting payment is in `collection`."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import discounts, lines, payments
from sandbox.stripe.errors import InvalidRequest

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


def draft(
    world: "World",
    customer: Json,
    *,
    reason: str,
    currency: str,
    invoice_lines: list[Json],
    subscription: Json | None = None,
    pending: Sequence[Json] = (),
    period: tuple[int, int] | None = None,
    auto_advance: bool = True,
    discount_ids: Sequence[str] = (),
    **fields: Any,
) -> Json:
    """Make a draft; `pending` are invoice items that it takes along."""
    start, end = period or (world.now(), world.now())
    method = subscription["collection_method"] if subscription else "charge_automatically"
    values: Json = {
        "collection_method": method,
        "metadata": {},
        "description": None,
        **fields,
    }
    invoice = world.new(
        "invoice",
        account_name="Tesslate sandbox",
        auto_advance=auto_advance,
        billing_reason=reason,
        currency=currency,
        customer=customer["id"],
        customer_address=customer["address"],
        customer_email=customer["email"],
        customer_name=customer["name"],
        discounts=list(discount_ids),
        parent=_parent(subscription),
        period_start=start,
        period_end=end,
        test_clock=customer["test_clock"],
        _subscription=subscription["id"] if subscription else None,
        _intent=None,
        _lines=[lines.for_invoice_item(world, item) for item in pending] + invoice_lines,
        _days_until_due=subscription["days_until_due"] if subscription else None,
        _retries=0,
        **values,
    )
    world.state.reindex(invoice)
    if subscription:
        automatic = subscription["automatic_tax"]["enabled"]
        invoice["automatic_tax"] = {
            **invoice["automatic_tax"],
            "enabled": automatic,
            "provider": "stripe" if automatic else None,
            "status": "complete" if automatic else None,
        }
    for item in pending:
        world.edit(item)["invoice"] = invoice["id"]
    for line in invoice["_lines"]:
        line["invoice"] = invoice["id"]
    add_up(world, invoice)
    return invoice


def _parent(subscription: Json | None) -> Json | None:
    if subscription is None:
        return None
    return {
        "quote_details": None,
        "subscription_details": {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"],
        },
        "type": "subscription_details",
    }


def add_up(world: "World", invoice: Json) -> None:
    """Totals from the lines. Prorations are not discounted again: they were when made."""
    all_lines = invoice["_lines"]
    subtotal = sum(line["amount"] for line in all_lines)
    open_lines = [line for line in all_lines if line["discountable"] and line["amount"] > 0]
    left = {line["id"]: line["amount"] for line in open_lines}
    for line in all_lines:
        line["discount_amounts"] = []
    taken: list[Json] = []
    for discount in discounts.in_force(world, invoice["discounts"]):
        coupon = discounts.coupon_of(world, discount)
        off = discounts.taken_off(coupon, sum(left.values()), invoice["currency"])
        taken.append({"amount": off, "discount": discount["id"]})
        _spread(off, open_lines, left, discount["id"])
    total = subtotal - sum(entry["amount"] for entry in taken)
    invoice.update(
        amount_due=max(0, total),
        amount_remaining=max(0, total),
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal,
        total=total,
        total_discount_amounts=taken,
        total_excluding_tax=total,
    )


def _spread(off: int, open_lines: list[Json], left: dict[str, int], discount: str) -> None:
    for line in open_lines:
        part = min(off, left[line["id"]])
        if part:
            line["discount_amounts"].append({"amount": part, "discount": discount})
            left[line["id"]] -= part
            off -= part


def finalize(world: "World", invoice: Json) -> None:
    """Draft → open. Settles the customer's balance and uses up what was for one invoice only.

    A subscription that loses a discount by this has changed; telling of that is the caller's.
    """
    if invoice["status"] != "draft":
        raise InvalidRequest(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice."
        )
    customer = world.get("customer", invoice["customer"])
    now = world.now()
    world.edit(invoice)
    _settle_balance(world, invoice, customer)
    sub = world.find("subscription", invoice["_subscription"])
    if sub and invoice["total_discount_amounts"]:
        world.edit(sub)["discounts"] = discounts.used_up(world, sub["discounts"])
    by_mail = invoice["collection_method"] == "send_invoice"
    days = invoice["_days_until_due"] or 0
    invoice.update(
        automatically_finalizes_at=None,
        due_date=(invoice["due_date"] or now + days * 86_400) if by_mail else None,
        effective_at=now,
        hosted_invoice_url=f"{world.base_url}/i/{invoice['id']}",
        invoice_pdf=f"{world.base_url}/i/{invoice['id']}/pdf",
        number=_number(world, customer),
        status="open",
    )
    invoice["status_transitions"] = {**invoice["status_transitions"], "finalized_at": now}
    if invoice["amount_due"] > 0:
        _ask_for_payment(world, invoice, customer)
    world.emit("invoice.finalized", invoice)
    if by_mail:
        world.emit("invoice.sent", invoice)


def _ask_for_payment(world: "World", invoice: Json, customer: Json) -> None:
    intent = payments.new_intent(
        world,
        customer,
        invoice["amount_due"],
        invoice["currency"],
        description="Subscription update" if invoice["_subscription"] else None,
        setup_future_usage="off_session" if invoice["_subscription"] else None,
    )
    invoice["_intent"] = intent["id"]
    world.new(
        "invoice_payment",
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment={"payment_intent": intent["id"], "type": "payment_intent"},
        status="open",
        _intent=intent["id"],
    )


def _settle_balance(world: "World", invoice: Json, customer: Json) -> None:
    """A negative balance is the customer's credit; a negative total becomes one."""
    balance, total = customer["balance"], invoice["total"]
    if total < 0:
        due, after = 0, balance + total
    elif balance < 0:
        used = min(total, -balance)
        due, after = total - used, balance + used
    else:
        due, after = total + balance, 0
    invoice.update(
        amount_due=due, amount_remaining=due, starting_balance=balance, ending_balance=after
    )
    if after != balance:
        before = world.public(customer)
        world.edit(customer)["balance"] = after
        world.emit("customer.updated", customer, before=before)


def _number(world: "World", customer: Json) -> str:
    world.edit(customer)
    sequence = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] = sequence + 1
    return f"{customer['invoice_prefix']}-{sequence:04d}"


def mark_paid(
    world: "World", invoice: Json, *, out_of_band: bool = False, counts: bool = False
) -> None:
    """Open → paid, with the events of it. The caller looks after the subscription."""
    before = world.public(invoice)
    now = world.now()
    world.edit(invoice).update(
        amount_paid=invoice["amount_due"],
        amount_paid_off_stripe=invoice["amount_due"] if out_of_band else 0,
        amount_remaining=0,
        attempt_count=invoice["attempt_count"] + counts,
        attempted=True,
        auto_advance=False,
        next_payment_attempt=None,
        status="paid",
        _out_of_band=out_of_band,
    )
    invoice["status_transitions"] = {**invoice["status_transitions"], "paid_at": now}
    if invoice["amount_due"] > 0:
        world.emit("invoice.updated", invoice, before=before)
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    for payment in world.state.each("invoice_payment", "invoice", invoice["id"]):
        if payment["status"] != "open":
            continue
        world.edit(payment)
        if out_of_band:
            payment["status"] = "canceled"
            payment["status_transitions"] = {"canceled_at": now, "paid_at": None}
        else:
            payment.update(status="paid", amount_paid=payment["amount_requested"])
            payment["status_transitions"] = {"canceled_at": None, "paid_at": now}
            world.emit("invoice_payment.paid", payment)


def void(world: "World", invoice: Json) -> None:
    if invoice["status"] not in ("open", "uncollectible"):
        raise InvalidRequest(
            "You can only pass in open invoices. This invoice isn't open.", param="invoice"
        )
    _close(world, invoice, "void", "voided_at", "invoice.voided")
    _cancel_payment(world, invoice)


def mark_uncollectible(world: "World", invoice: Json) -> None:
    if invoice["status"] != "open":
        raise InvalidRequest(
            "You can only mark open invoices as uncollectible. This invoice isn't open."
        )
    _close(
        world, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible"
    )


def _close(world: "World", invoice: Json, status: str, moment: str, event: str) -> None:
    before = world.public(invoice)
    world.edit(invoice).update(auto_advance=False, next_payment_attempt=None, status=status)
    invoice["status_transitions"] = {**invoice["status_transitions"], moment: world.now()}
    world.emit("invoice.updated", invoice, before=before)
    world.emit(event, invoice)


def _cancel_payment(world: "World", invoice: Json) -> None:
    for payment in world.state.each("invoice_payment", "invoice", invoice["id"]):
        if payment["status"] == "open":
            world.edit(payment)["status"] = "canceled"
            payment["status_transitions"] = {"canceled_at": world.now(), "paid_at": None}
    intent = world.find("payment_intent", invoice["_intent"])
    if intent and intent["status"] not in ("succeeded", "canceled"):
        world.edit(intent).update(
            cancellation_reason="void_invoice", canceled_at=world.now(), status="canceled"
        )
        world.emit("payment_intent.canceled", intent)


def stop_collecting(world: "World", held: Iterable[Json]) -> None:
    """Of a canceled subscription or a deleted customer: no longer tried by themselves."""
    for invoice in held:
        if invoice["status"] in ("draft", "open") and invoice["auto_advance"]:
            before = world.public(invoice)
            world.edit(invoice).update(
                auto_advance=False, next_payment_attempt=None, automatically_finalizes_at=None
            )
            world.emit("invoice.updated", invoice, before=before)


def latest_that_counts(world: "World", subscription: Json) -> Json | None:
    """The most recent finalized invoice that is not void: it decides the status."""
    held = list(world.state.each("invoice", "_subscription", subscription["id"]))
    for invoice in reversed(held):
        if invoice.get("_for_pending_update") and invoice["status"] == "open":
            continue  # not owed: the change it would pay for has not been made
        if invoice["status"] in ("open", "paid", "uncollectible"):
            return invoice
    return None

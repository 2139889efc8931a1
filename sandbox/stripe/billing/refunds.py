"""Money going back: refunds, disputes, early fraud warnings, credit notes."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import customers, payments
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.shapes import listing

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

DISPUTE_FEE = 1500
EVIDENCE_DAYS = 7
OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review",
        "appeal_needs_response", "appeal_under_review")  # fmt: skip
LOST_OR_WON = ("won", "lost", "warning_closed", "prevented")


def refund(
    world: "World",
    charge: Json,
    *,
    amount: int | None = None,
    reason: str | None = None,
    metadata: Json | None = None,
    status: str = "succeeded",
) -> Json:
    """Give back part or all of a charge. `status`: how far it gets at once (succeeded, pending)."""
    left = charge["amount"] - charge["amount_refunded"]
    if charge["status"] != "succeeded":
        raise InvalidRequest("This charge has not succeeded, so it cannot be refunded.")
    if left == 0:
        raise InvalidRequest(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    wanted = left if amount is None else amount
    if not 0 < wanted <= left:
        raise InvalidRequest(
            f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )
    made = world.new(
        "refund",
        amount=wanted,
        charge=charge["id"],
        currency=charge["currency"],
        customer=charge["customer"],
        metadata=metadata or {},
        payment_intent=charge["payment_intent"],
        payment_method=charge["payment_method"],
        reason=reason,
        status=status,
        pending_reason="processing" if status == "pending" else None,
    )
    made["balance_transaction"] = payments.book(
        world, made["id"], -wanted, charge["currency"], "refund"
    )
    world.state.reindex(made)
    before = world.public(charge)
    world.edit(charge)["amount_refunded"] += wanted
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.emit("charge.refunded", charge, before=before)
    world.emit("refund.created", made)
    return made


def finish_refund(world: "World", made: Json, *, well: bool) -> None:
    """A pending refund arrives, or fails and the money comes back to us."""
    before = world.public(made)
    world.edit(made).update(status="succeeded" if well else "failed", pending_reason=None)
    if not well:
        made["failure_reason"] = "expired_or_canceled_card"
        made["failure_balance_transaction"] = payments.book(
            world, made["id"], made["amount"], made["currency"], "refund_failure"
        )
        charge = world.edit(world.get("charge", made["charge"]))
        charge["amount_refunded"] -= made["amount"]
        charge["refunded"] = False
    world.emit("charge.refund.updated", made, before=before)
    world.emit("refund.updated", made, before=before)
    if not well:
        world.emit("refund.failed", made)


# --- disputes


def open_dispute(
    world: "World",
    charge: Json,
    *,
    reason: str = "fraudulent",
    status: str = "needs_response",
    amount: int | None = None,
) -> Json:
    """The payer's bank takes the money back. An inquiry (`warning_…`) leaves it where it is."""
    if charge["status"] != "succeeded":
        raise InvalidRequest("Only a succeeded charge can be disputed.")
    disputed = charge["amount"] if amount is None else amount
    inquiry = status.startswith("warning_")
    dispute = world.new(
        "dispute",
        amount=disputed,
        charge=charge["id"],
        currency=charge["currency"],
        is_charge_refundable=inquiry,
        metadata={},
        payment_intent=charge["payment_intent"],
        reason=reason,
        status=status,
    )
    world.state.reindex(dispute)
    dispute["evidence_details"] = {
        **dispute["evidence_details"],
        "due_by": world.now() + EVIDENCE_DAYS * 86_400,
    }
    world.edit(charge)["disputed"] = True
    if not inquiry and status != "prevented":
        _withdraw(world, dispute)
    world.emit("charge.dispute.created", dispute)
    if dispute["balance_transactions"]:
        world.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def _withdraw(world: "World", dispute: Json) -> None:
    entry_id = payments.book(
        world, dispute["id"], -dispute["amount"], dispute["currency"], "dispute"
    )
    entry = world.get("balance_transaction", entry_id)
    entry.update(fee=DISPUTE_FEE, net=entry["amount"] - DISPUTE_FEE)
    dispute["balance_transactions"] = [*dispute["balance_transactions"], world.public(entry)]


def move_dispute(world: "World", dispute: Json, status: str) -> None:
    """To any other status: an inquiry that becomes a dispute, evidence sent, won, lost, appeals."""
    before = world.public(dispute)
    escalates = dispute["status"].startswith("warning_") and status == "needs_response"
    world.edit(dispute)["status"] = status
    if escalates:
        _withdraw(world, dispute)
    reinstated = status == "won" and bool(dispute["balance_transactions"])
    if reinstated:
        entry_id = payments.book(
            world, dispute["id"], dispute["amount"], dispute["currency"], "dispute_reversal"
        )
        entry = world.public(world.get("balance_transaction", entry_id))
        dispute["balance_transactions"] = [*dispute["balance_transactions"], entry]
    if status in ("won", "warning_closed"):
        world.edit(world.get("charge", dispute["charge"]))["disputed"] = status == "won"
    if status in LOST_OR_WON:
        world.emit("charge.dispute.closed", dispute)
    else:
        world.emit("charge.dispute.updated", dispute, before=before)
    if escalates:
        world.emit("charge.dispute.funds_withdrawn", dispute)
    if reinstated:
        world.emit("charge.dispute.funds_reinstated", dispute)


def warn_of_fraud(world: "World", charge: Json, fraud_type: str = "made_with_stolen_card") -> Json:
    warning = world.new(
        "radar.early_fraud_warning",
        charge=charge["id"],
        fraud_type=fraud_type,
        payment_intent=charge["payment_intent"],
    )
    world.emit("radar.early_fraud_warning.created", warning)
    return warning


# --- credit notes


def credit_note(world: "World", invoice: Json, params: Json) -> Json:
    """Take back part of a finalized invoice: off what is open, or as refund or customer credit."""
    if invoice["status"] not in ("open", "paid"):
        raise InvalidRequest("You can only create credit notes for open or paid invoices.")
    amount = params.get("amount")
    if amount is None:
        amount = sum(line.get("amount") or 0 for line in params.get("lines") or [])
    amount = amount or invoice["total"]
    if amount > invoice["total"]:
        raise InvalidRequest("The credit note amount exceeds the invoice's.", param="amount")
    paid = invoice["status"] == "paid"
    customer = customers.present(world, invoice["customer"])
    note = world.new(
        "credit_note",
        amount=amount,
        currency=invoice["currency"],
        customer=customer["id"],
        effective_at=world.now(),
        invoice=invoice["id"],
        memo=params.get("memo"),
        metadata=params.get("metadata") or {},
        number=f"{invoice['number']}-CN-{len(world.state.of_kind('credit_note')) + 1:02d}",
        out_of_band_amount=params.get("out_of_band_amount"),
        pdf=f"{world.base_url}/i/{invoice['id']}/pdf",
        post_payment_amount=amount if paid else 0,
        pre_payment_amount=0 if paid else amount,
        reason=params.get("reason"),
        subtotal=amount,
        subtotal_excluding_tax=amount,
        total=amount,
        total_excluding_tax=amount,
        total_taxes=[],
        type="post_payment" if paid else "pre_payment",
    )
    note["lines"] = listing([], f"/v1/credit_notes/{note['id']}/lines")
    world.state.reindex(note)
    if paid:
        _pay_back(world, note, invoice, customer, params)
    before = world.public(invoice)
    which = "post_payment_credit_notes_amount" if paid else "pre_payment_credit_notes_amount"
    world.edit(invoice)[which] += amount
    if not paid:
        invoice["amount_due"] = max(0, invoice["amount_due"] - amount)
        invoice["amount_remaining"] = invoice["amount_due"]
    world.emit("credit_note.created", note)
    world.emit("invoice.updated", invoice, before=before)
    return note


def _pay_back(world: "World", note: Json, invoice: Json, customer: Json, params: Json) -> None:
    back = params.get("refund_amount") or 0
    intent = world.find("payment_intent", invoice["_intent"])
    if back and intent:
        charge = world.get("charge", intent["latest_charge"])
        made = refund(world, charge, amount=back, reason="requested_by_customer")
        note["refunds"] = [
            {"amount_refunded": back, "payment_record_refund": None, "refund": made["id"],
             "type": "refund"}
        ]  # fmt: skip
    credit = params.get("credit_amount", 0 if back else note["amount"])
    if credit:
        before = world.public(customer)
        world.edit(customer)["balance"] -= credit
        world.emit("customer.updated", customer, before=before)

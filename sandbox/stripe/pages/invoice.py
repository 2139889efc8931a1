"""The hosted page of one invoice, where it can be paid and authenticated."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import collection, methods
from sandbox.stripe.billing.methods import TEST_METHODS
from sandbox.stripe.errors import ApiError
from sandbox.stripe.pages import html
from sandbox.stripe.pages.html import Page, amount, badge, text

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


class InvoicePages:
    def __init__(self, world: "World") -> None:
        self.world = world

    def show(self, id: str, *, error: str = "", done: str = "", status: int = 200) -> Page:
        invoice = self.world.find("invoice", id)
        if invoice is None or invoice["status"] == "draft":
            return html.missing("such invoice")
        currency = invoice["currency"]
        rows = [
            f"<tr><td>{text(line['description'])}</td>"
            f'<td class="number">{amount(line["amount"], currency)}</td></tr>'
            for line in invoice["_lines"]
        ]
        lines = html.table(("Item", "Amount#"), rows, "Nothing billed.")
        body = (
            f'<div class="columns"><section class="card"><h1>Invoice {text(invoice["number"])} '
            f"{badge(invoice['status'])}</h1><p class='soft'>{html.day(invoice['created'])}</p>"
            f'{lines}<dl class="sums"><dt>Total</dt><dd>{amount(invoice["total"], currency)}</dd>'
            f'<dt class="total">Amount due</dt><dd class="total">'
            f"{amount(invoice['amount_remaining'], currency)}</dd></dl></section>"
            f"{self._form(invoice)}</div>"
        )
        return html.page("Invoice", body, error=error, done=done, status=status)

    def pay(self, id: str, form: Json) -> Page:
        invoice = self.world.find("invoice", id)
        chosen = form.get("method", "pm_card_visa")
        if invoice is None or chosen not in TEST_METHODS:
            return html.missing("such invoice")
        test = TEST_METHODS[chosen]
        if test.behaviour == methods.NEEDS_ACTION and form.get("answer") != "passed":
            if form.get("answer") == "failed":
                return self.show(id, error="We could not authenticate your card.", status=402)
            body = html.authentication(f"/i/{id}", "Tesslate sandbox", method=chosen)
            return html.page("Authentication", body)
        try:
            with self.world.transaction():
                self._collect(invoice, methods.create(self.world, test))
        except ApiError as refusal:
            return self.show(id, error=refusal.message, status=refusal.status)
        return self.show(id, done="Thank you. The payment is on its way.")

    def _collect(self, invoice: Json, method: Json) -> None:
        if invoice["status"] != "open":
            collection.pay_by_hand(self.world, invoice)  # says why it cannot be paid
        if method["_behaviour"] in methods.DECLINES:
            raise methods.declined(method["_behaviour"])
        methods.attach(self.world, method, self.world.get("customer", invoice["customer"]))
        with self.world.events_in_order(collection.COLLECTION_ORDER):
            collection.charge(self.world, invoice, method=method, passed=True, by_hand=True)

    def _form(self, invoice: Json) -> str:
        if invoice["status"] != "open":
            return ""
        return (
            '<section class="card"><h2>Pay this invoice</h2>'
            f'<form method="post" action="/i/{invoice["id"]}">{html.method_choice()}'
            '<button type="submit" class="primary wide">Pay '
            f"{amount(invoice['amount_remaining'], invoice['currency'])}</button></form></section>"
        )

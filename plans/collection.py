"""Invoices that staff must hear of: one that cannot be finalized, one that was given up.

Told by the invoice's present state at Stripe, so that late and repeated events do no harm.
"""

from plans import stripe_client
from plans.models import BillingProblem, Customer
from plans.problems import open_problem, resolve_problem
from plans.stripe_reading import Json
from tesslate.lib.sql import fetch

Kind = BillingProblem.Kind
SUMMARIES = {
    Kind.FINALIZATION_FAILED: "Stripe cannot finalize this invoice (often tax); it will not be "
    "collected.",
    Kind.UNCOLLECTIBLE: "This invoice was given up as uncollectible. Write it off, or settle it "
    "with the customer.",
}


def review_invoice(invoice_id: str, *, customer: Customer | None) -> Json | None:
    """Open the problem that the invoice has, close those that it has not; returns the invoice.

    Raises StripeUnavailable.
    """
    invoice = stripe_client.connection().invoice(invoice_id)
    wrong = None if invoice is None else _what_is_wrong(invoice)
    for kind, summary in SUMMARIES.items():
        if kind == wrong:
            open_problem(kind=kind, subject=invoice_id, summary=summary, customer=customer)
        else:
            resolve_problem(kind=kind, subject=invoice_id)
    return invoice


def review_open_problems(customer: Customer) -> None:
    """The same for the customer's invoices with an open problem, which may be over by now."""
    # Fixed: every reading passes through it, and hardly ever finds anything.
    found = fetch(
        "SELECT DISTINCT subject FROM plans_billingproblem"
        " WHERE customer_id = %s AND kind = ANY(%s) AND resolved_at IS NULL",
        [customer.pk, list(SUMMARIES)],
    )
    for (invoice_id,) in found:
        review_invoice(invoice_id, customer=customer)


def _what_is_wrong(invoice: Json) -> Kind | None:
    if invoice.get("status") == "uncollectible":
        return Kind.UNCOLLECTIBLE
    if invoice.get("status") == "draft" and invoice.get("last_finalization_error"):
        return Kind.FINALIZATION_FAILED
    return None

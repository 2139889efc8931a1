"""What a page's script is to wait for when the browser comes back from Stripe."""

from typing import Any

from django.http import HttpRequest

from plans.overview import Billing


def back_from_stripe(request: HttpRequest, billing: Billing | None) -> dict[str, Any]:
    """The script's settings, out of what ``plans.checkout`` put into the address."""
    came = request.GET
    is_paid = came.get("checkout") == "success"
    return {
        "checkout_session": came.get("session_id", "") if is_paid else "",
        "is_back_from_portal": came.get("portal") == "back",
        "seen": "" if billing is None else fingerprint(billing),
    }


def fingerprint(billing: Billing) -> str:
    """What a page shows of a subscription, in short: static/site/activation.js makes the same."""
    row = billing.subscription or {}
    price = row.get("price")
    parts = (
        billing.plan.code,
        row.get("status", ""),
        "" if price is None else price.stripe_price_id,
        "ends" if row.get("ends_at") else "",
        row.get("quantity", ""),
    )
    return " ".join(str(part) for part in parts)

"""What the admin pages of this app share."""

import json
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString


def pretty(value: Any) -> SafeString:
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre class="whitespace-pre-wrap break-all text-xs">{}</pre>', text)


# What in Stripe's objects tells of a person.
PERSONAL = frozenset(
    {
        "address",
        "billing_details",
        "city",
        "customer_address",
        "customer_details",
        "customer_email",
        "customer_name",
        "customer_phone",
        "customer_shipping",
        "customer_tax_ids",
        "email",
        "ip_address",
        "last4",
        "line1",
        "line2",
        "name",
        "phone",
        "postal_code",
        "receipt_email",
        "shipping",
        "shipping_details",
        "tax_ids",
    }
)


def without_personal_data(value: Any) -> Any:
    """The same document with every personal value replaced by a mark."""
    if isinstance(value, dict):
        return {
            name: "•••" if name in PERSONAL and inner else without_personal_data(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [without_personal_data(inner) for inner in value]
    return value

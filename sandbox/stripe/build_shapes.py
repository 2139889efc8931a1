"""Make `shapes.json` from Stripe's published samples.

    python -m sandbox.stripe.build_shapes FIXTURES

FIXTURES is `openapi/fixtures3.json` of the public stripe/openapi repository (MIT): one sample of
each resource in the current shape. A sample names every field but fills optional ones with made-up
values, so each field that the official client declares optional becomes null here, and what the
real API answers for a freshly made object is put in by hand below. Run it again when the pinned
`stripe` package moves to a new API version.
"""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from stripe._object_classes import OBJECT_CLASSES

Json = dict[str, Any]

RESOURCES = (
    "account", "balance_transaction", "billing.meter", "billing.meter_event",
    "billing.meter_event_summary", "billing_portal.configuration", "billing_portal.session",
    "charge", "checkout.session", "coupon", "credit_note", "credit_note_line_item", "customer",
    "discount", "dispute", "event", "invoice", "invoice_payment", "invoiceitem", "line_item",
    "item", "payment_intent", "payment_method", "plan", "price", "product", "promotion_code",
    "radar.early_fraud_warning", "refund", "setup_intent", "subscription", "subscription_item",
    "subscription_schedule", "test_helpers.test_clock", "webhook_endpoint",
)  # fmt: skip

# Present only when expanded, when asked for at creation, or for deleted objects.
CONDITIONAL = {
    "*": {"deleted", "presentment_details"},
    "charge": {"level3", "refunds", "transfer", "application_fee_amount"},
    "checkout.session": {"line_items", "return_url", "redirect_on_completion"},
    "coupon": {"applies_to", "currency_options"},
    "event": {"account", "context"},
    "customer": {"subscriptions", "sources", "tax_ids", "tax", "cash_balance",
                 "invoice_credit_balance"},
    "invoice": {"payments", "confirmation_secret", "subscription", "threshold_reason"},
    "payment_method": {"radar_options"},
    "price": {"tiers", "currency_options"},
    "plan": {"tiers"},
    "webhook_endpoint": {"secret"},
}  # fmt: skip

OWN_TEXT = re.compile(r"^[a-z]+(_[a-z]+)?_(?=\w*[0-9A-Z])\w{8,}$|^https://")
A_MOMENT = 100_000_000

ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
CARD = {
    "brand": "visa", "checks": {"address_line1_check": None, "address_postal_code_check": None,
                                "cvc_check": "pass"},
    "country": "US", "display_brand": "visa", "exp_month": 12, "exp_year": 2034,
    "fingerprint": "Xt5EWLLDS7FJjR1c", "funding": "credit", "generated_from": None,
    "last4": "4242", "networks": {"available": ["visa"], "preferred": None},
    "regulated_status": "unregulated", "three_d_secure_usage": {"supported": True}, "wallet": None,
}  # fmt: skip

# What the real API fills in for a new object.
FILLED: dict[str, Json] = {
    "account": {"charges_enabled": True, "payouts_enabled": True, "details_submitted": True},
    "billing_portal.session": {"flow": None},
    "charge": {
        "captured": True, "fraud_details": {}, "amount_captured": 0, "outcome": None,
        "billing_details": {"address": ADDRESS, "email": None, "name": None, "phone": None,
                            "tax_id": None},
        "source": None,
    },
    "checkout.session": {
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "custom_text": {"after_submit": None, "shipping_address": None, "submit": None,
                        "terms_of_service_acceptance": None},
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "phone_number_collection": {"enabled": False}, "adaptive_pricing": {"enabled": False},
        "discounts": [], "ui_mode": "hosted_page", "payment_intent": None,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "saved_payment_method_options": None, "payment_method_collection": "always",
    },
    "customer": {
        "invoice_settings": {"custom_fields": None, "default_payment_method": None,
                             "footer": None, "rendering_options": None},
        "balance": 0, "delinquent": False, "preferred_locales": [], "next_invoice_sequence": 1,
        "currency": None, "metadata": {},
    },
    "dispute": {
        "payment_method_details": {"card": {"brand": "visa", "case_type": "chargeback",
                                            "network_reason_code": "10.4"}, "type": "card"},
        "enhanced_eligibility_types": [],
    },
    "event": {"request": {"id": None, "idempotency_key": None}},
    "invoice": {
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None,
                          "provider": None, "status": None},
        "customer_tax_exempt": "none", "customer_tax_ids": [], "issuer": {"type": "self"},
        "payment_settings": {"default_mandate": None, "payment_method_options": None,
                             "payment_method_types": None},
        "rendering": None, "total_discount_amounts": [], "total_pretax_credit_amounts": [],
        "total_taxes": [], "amount_overpaid": 0, "metadata": {}, "attempted": False,
        "amount_paid_off_stripe": 0, "account_country": "US",
    },
    "line_item": {"taxes": [], "pretax_credit_amounts": [], "discount_amounts": []},
    "payment_intent": {
        "amount_details": {"tip": {}}, "last_payment_error": None, "next_action": None,
        "automatic_payment_methods": None, "processing": None, "amount_capturable": 0,
        "payment_method_options": {"card": {
            "installments": None, "mandate_options": None, "network": None,
            "request_three_d_secure": "automatic",
        }},
    },
    "payment_method": {
        "billing_details": {"address": ADDRESS, "email": None, "name": None, "phone": None,
                            "tax_id": None},
        "card": CARD, "metadata": {},
    },
    "price": {"metadata": {}, "custom_unit_amount": None, "transform_quantity": None},
    "product": {"default_price": None, "description": None, "type": "service", "metadata": {}},
    "promotion_code": {"metadata": {}},
    "coupon": {"metadata": {}},
    "refund": {"metadata": {}, "status": "succeeded",
               "destination_details": {"card": {"reference": None, "reference_status": "pending",
                                                "reference_type": "acquirer_reference_number",
                                                "type": "refund"}, "type": "card"}},
    "setup_intent": {"metadata": {}, "last_setup_error": None, "next_action": None},
    "subscription": {
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        "billing_schedules": [], "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "default_tax_rates": [], "discounts": [],
        "payment_settings": {"payment_method_options": None, "payment_method_types": None,
                             "save_default_payment_method": "off"},
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    },
    "subscription_item": {"tax_rates": [], "price": None, "plan": None},
    "subscription_schedule": {"billing_mode": {"flexible": {"proration_discounts": "included"},
                                               "type": "flexible"}, "pause_schedules": []},
    "test_helpers.test_clock": {"status_details": {}},
    "webhook_endpoint": {"description": None, "metadata": {}},
}  # fmt: skip


def annotations_of(resource: str) -> dict[str, str]:
    """The official client's declared fields of a resource, by wire name."""
    place = OBJECT_CLASSES.get(resource)
    if place is None:
        return {}
    cls = (
        getattr(importlib.import_module(place[0]), place[1]) if isinstance(place, tuple) else place
    )
    found: dict[str, str] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("stripe.") and "OBJECT_NAME" in vars(base):
            found.update({k: str(v) for k, v in vars(base).get("__annotations__", {}).items()})
    renamed = getattr(cls, "_field_remappings", {})
    return {renamed.get(k, k): v for k, v in found.items() if not k.startswith("_") and k.islower()}


def emptied(value: Any) -> Any:
    """The sample without what belongs to that one object: ids, moments, addresses, contents."""
    if isinstance(value, dict) and value.get("object") == "list":
        return {"object": "list", "data": [], "has_more": False, "url": None}
    if isinstance(value, list):
        return [] if any(isinstance(v, dict) for v in value) else value
    if isinstance(value, str) and OWN_TEXT.search(value):
        return None
    if isinstance(value, int) and value > A_MOMENT:
        return None
    return value


def shape(resource: str, sample: Json) -> Json:
    declared = annotations_of(resource)
    skipped = CONDITIONAL["*"] | CONDITIONAL.get(resource, set())
    if resource == "payment_method":  # one optional field per kind of method; absent unless used
        declared = {k: v for k, v in declared.items() if k in sample}
    made: Json = {}
    for field in sorted(set(sample) | set(declared)):
        if field in skipped:
            continue
        optional = "Optional" in declared.get(field, "Optional")
        made[field] = None if optional else emptied(sample.get(field))
    made.update(FILLED.get(resource, {}))
    made["object"] = sample["object"]
    if "livemode" in made:
        made["livemode"] = False
    return made


def main(source: str) -> None:
    samples = json.loads(Path(source).read_text())["resources"]
    shapes = {name: shape(name, samples[name]) for name in RESOURCES}
    target = Path(__file__).with_name("shapes.json")
    lines = [f"{json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in shapes.items()]
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])

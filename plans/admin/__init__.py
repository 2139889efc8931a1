"""Billing as staff see it: what is for sale, who has what and why, and what Stripe told us."""

from plans.admin import billing, catalogue, entitlements, inbox, overage, revenue, throttles

__all__ = [
    "billing",
    "catalogue",
    "entitlements",
    "inbox",
    "overage",
    "revenue",
    "throttles",
]

"""What people may have (catalogue), what they bought (subscriptions, checkout), what staff gave
them (grants), what follows from that (entitlement), and what Stripe told us (inbox)."""

from plans.models.catalogue import GatewayModel, Plan, Price
from plans.models.checkout import Checkout, PortalConfiguration
from plans.models.entitlement import CurrentEntitlement
from plans.models.grants import PlanGrant
from plans.models.inbox import BillingReconciliation, EventBackfill, StripeEvent
from plans.models.overage import (
    EarlierOverageTerms,
    OverageMeter,
    OverageReport,
    OverageWindow,
)
from plans.models.problems import BillingNotice, BillingProblem
from plans.models.revenue import ExchangeRate, RevenueCharge, RevenueInvoice, RevenueItem
from plans.models.subscriptions import Customer, StripeCustomerAlias, Subscription
from plans.models.throttles import Throttle

__all__ = [
    "BillingNotice",
    "BillingProblem",
    "BillingReconciliation",
    "Checkout",
    "CurrentEntitlement",
    "Customer",
    "EarlierOverageTerms",
    "EventBackfill",
    "ExchangeRate",
    "GatewayModel",
    "OverageMeter",
    "OverageReport",
    "OverageWindow",
    "Plan",
    "PlanGrant",
    "PortalConfiguration",
    "Price",
    "RevenueCharge",
    "RevenueInvoice",
    "RevenueItem",
    "StripeCustomerAlias",
    "StripeEvent",
    "Subscription",
    "Throttle",
]

"""What people may have (catalogue), what they bought (subscriptions), what staff gave them
(grants), what follows from that (entitlement), and what Stripe told us (inbox)."""

from plans.models.catalogue import GatewayModel, Plan, Price
from plans.models.entitlement import CurrentEntitlement
from plans.models.grants import PlanGrant
from plans.models.inbox import StripeEvent
from plans.models.subscriptions import Customer, Subscription

__all__ = [
    "CurrentEntitlement",
    "Customer",
    "GatewayModel",
    "Plan",
    "PlanGrant",
    "Price",
    "StripeEvent",
    "Subscription",
]

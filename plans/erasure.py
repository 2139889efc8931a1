"""What a closed account leaves at Stripe, and in what Stripe told us: erased, with a record of it.

Closing an account erases our own rows at once (accounts.services) and has its keys deleted at the
gateway (llmkeys). Stripe is far away and may be down, so its part is planned work like any other.
"""

import logging

from django.db import transaction

from plans import inbox
from plans.access import ACCESS_BY_STATUS, LIVE_STATUSES
from plans.customers import forget_deleted
from plans.errors import StripeUnavailable
from plans.models import Customer, Subscription
from plans.stripe_client import connection
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)


def erase_next() -> bool:
    """Erase one closed account's customer; False when there is none, or Stripe is down.

    Deleting a customer takes name, addresses and payment methods out of Stripe and keeps the
    invoices, which the law wants kept (https://docs.stripe.com/api/customers/delete). It would end
    a subscription without a refund, so an account that still pays is left to staff: it is on their
    list as closed_account_pays.
    """
    paying = Subscription.objects.exclude(status__in=set(ACCESS_BY_STATUS) - LIVE_STATUSES)
    customer = (
        Customer.objects.filter(user__deleted_at__isnull=False)
        .exclude(stripe_customer_id=None)
        .exclude(subscriptions__in=paying)
        .order_by("pk")
        .first()
    )
    if customer is None or customer.stripe_customer_id is None:
        return False
    try:
        connection().delete_customer(customer.stripe_customer_id)
    except StripeUnavailable as error:
        logger.warning("A closed account's customer is not erased yet: %s", error)
        return False
    with transaction.atomic():
        inbox.forget_payloads(customer.stripe_customer_id)
        forget_deleted(customer.stripe_customer_id, cause=Cause.system("erasure"))
    return True

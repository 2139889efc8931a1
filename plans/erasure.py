"""What a closed account leaves at Stripe, and in what Stripe told us: erased, with a record of it.

Closing an account erases our own rows at once (accounts.services) and has its keys deleted at the
gateway (llmkeys). Stripe is far away and may be down, so its part is planned work like any other.
"""

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from plans import inbox
from plans.access import ACCESS_BY_STATUS, LIVE_STATUSES
from plans.customers import find_customer, forget_deleted
from plans.errors import StripeRejected, StripeUnavailable
from plans.models import BillingProblem, Customer, StripeCustomerAlias, Subscription
from plans.problems import open_problem, resolve_problem
from plans.stripe_client import connection
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)

REFUSED = BillingProblem.Kind.ERASURE_REFUSED
# One that Stripe refused is tried again after this long, or once staff resolve its problem.
REFUSED_AGAIN_AFTER = timedelta(days=1)


def erase_next() -> bool:
    """Erase one customer object of a closed account; False when there is none, or Stripe is down.

    Deleting a customer takes name, addresses and payment methods out of Stripe and keeps the
    invoices, which the law wants kept (https://docs.stripe.com/api/customers/delete). It would end
    a subscription without a refund, so an account that still pays is left to staff: it is on their
    list as closed_account_pays. So is one that Stripe refuses, which holds up nobody else.
    """
    stripe_customer_id = _next_id()
    if stripe_customer_id is None:
        return False
    try:
        connection().delete_customer(stripe_customer_id)
    except StripeUnavailable as error:
        logger.warning("A closed account's customer is not erased yet: %s", error)
        return False
    except StripeRejected as error:
        open_problem(
            kind=REFUSED,
            subject=stripe_customer_id,
            summary=f"The account is closed and Stripe does not delete its customer: {error}",
            customer=find_customer(stripe_customer_id),
        )
        return True
    with transaction.atomic():
        inbox.forget_payloads([stripe_customer_id])
        forget_deleted(stripe_customer_id, cause=Cause.system("erasure"))
        resolve_problem(kind=REFUSED, subject=stripe_customer_id)
    return True


def forget_late_events() -> int:
    """Forget what events told that came, or were handled, after their customer was erased: Stripe's
    own word of the deletion names the customer once more. Returns how many."""
    erased = StripeCustomerAlias.objects.filter(
        kind=StripeCustomerAlias.Kind.DELETED, customer__user__deleted_at__isnull=False
    )
    return inbox.forget_payloads(erased.values("stripe_customer_id"))


def _next_id() -> str | None:
    """Of the payers' own objects first, then of duplicate and replaced ones."""
    paying = Subscription.objects.exclude(status__in=set(ACCESS_BY_STATUS) - LIVE_STATUSES)
    closed = Customer.objects.filter(user__deleted_at__isnull=False).exclude(
        subscriptions__in=paying
    )
    refused = BillingProblem.objects.filter(
        kind=REFUSED,
        resolved_at=None,
        last_seen_at__gt=timezone.now() - REFUSED_AGAIN_AFTER,
    ).values("subject")
    own = closed.exclude(stripe_customer_id=None)
    others = StripeCustomerAlias.objects.filter(customer__in=closed).exclude(
        kind=StripeCustomerAlias.Kind.DELETED
    )
    for rows in (own, others):
        waiting = rows.exclude(stripe_customer_id__in=refused).order_by("pk")
        found = waiting.values_list("stripe_customer_id", flat=True).first()
        if found is not None:
            return found
    return None

"""Hold what Stripe's meter counted against what we reported, for everybody who was lately billed.

A difference is money that a customer pays too much or too little, and nobody's to guess: staff see
it, with both sums, and it goes away when the sums meet again.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from plans.errors import StripeError
from plans.models import BillingProblem, OverageWindow
from plans.overage_reports import compare
from plans.problems import open_problem, resolve_problem

logger = logging.getLogger(__name__)
KIND = BillingProblem.Kind.OVERAGE_DIFFERS

# A window is looked at until its days are over at Stripe too, and a little longer.
LATELY = timedelta(days=3)


def audit_overage(*, at: datetime | None = None) -> int:
    """Compare each customer's last reported window; how many differ. Stripe being down ends it:
    the next run looks again."""
    now = at or timezone.now()
    differing = 0
    for window in _windows(now):
        try:
            found = compare(window, at=now)
        except StripeError as error:
            logger.warning("overage was not compared to its end: %s", error)
            break
        differing += found.difference != 0
        _tell(window, found.at_stripe, found.sent)
    return differing


def _windows(now: datetime) -> list[OverageWindow]:
    """The last of each customer: the meter knows customers alone."""
    lately = Q(period_end__gt=now - LATELY, units_reported__gt=0)
    rows = OverageWindow.objects.filter(lately).select_related("customer").order_by("period_start")
    return list({row.customer_id: row for row in rows}.values())


def _tell(window: OverageWindow, at_stripe: int, sent: int) -> None:
    subject = window.customer.stripe_customer_id or str(window.customer_id)
    if at_stripe == sent:
        resolve_problem(kind=KIND, subject=subject)
        return
    with transaction.atomic():
        open_problem(
            kind=KIND,
            subject=subject,
            summary=f"Stripe's meter counts {at_stripe} cents, we reported {sent}.",
            customer=window.customer,
        )

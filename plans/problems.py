"""Problems that only a person can put right: opened by whoever meets them, listed for staff."""

import logging

from django.db import connection
from django.utils import timezone

from plans.metrics import PROBLEMS_OPENED
from plans.models import BillingProblem, Customer

logger = logging.getLogger(__name__)
Kind = BillingProblem.Kind


def open_problem(
    *, kind: str, subject: str, summary: str, customer: Customer | None = None
) -> BillingProblem:
    """Open a problem, or count another occurrence of the one that is open already.

    Runs in the caller's transaction. The first occurrence is logged and counted, for alerts.
    """
    with connection.cursor() as cursor:
        # Two workers may meet the same problem at once; the partial unique index decides.
        cursor.execute(
            """
            INSERT INTO plans_billingproblem
                (kind, subject, summary, customer_id, occurrences, first_seen_at, last_seen_at)
            VALUES (%s, %s, %s, %s, 1, now(), now())
            ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE SET
                occurrences = plans_billingproblem.occurrences + 1,
                last_seen_at = now(),
                summary = EXCLUDED.summary,
                customer_id = coalesce(EXCLUDED.customer_id, plans_billingproblem.customer_id)
            RETURNING id, occurrences
            """,
            [kind, subject[:255], summary[:500], customer.pk if customer else None],
        )
        pk, occurrences = cursor.fetchone()
    if occurrences == 1:
        PROBLEMS_OPENED.labels(kind).inc()
        logger.error("billing problem %s %s: %s", kind, subject, summary)
    return BillingProblem.objects.get(pk=pk)


def resolve_problem(*, kind: str, subject: str) -> None:
    """Close the problem, if it is open: its cause is gone."""
    BillingProblem.objects.filter(kind=kind, subject=subject, resolved_at=None).update(
        resolved_at=timezone.now()
    )

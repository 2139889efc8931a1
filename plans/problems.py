"""Problems that only a person can put right: opened by whoever meets them, listed for staff."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from accounts.models import Membership
from plans.access import ACCESS_BY_STATUS, LIVE_STATUSES
from plans.metrics import PROBLEMS_OPENED
from plans.models import (
    BillingProblem,
    BillingReconciliation,
    Customer,
    StripeEvent,
    Subscription,
)
from tesslate.lib.sql import fetch

logger = logging.getLogger(__name__)
Kind = BillingProblem.Kind

# Events that were not meant for us are a problem for as long as they keep coming, and this longer.
STRAYS_SHOWN_FOR = timedelta(days=7)
# The comparison with Stripe runs every night.
RECONCILED_WITHIN = timedelta(days=2)


def open_problem(
    *, kind: str, subject: str, summary: str, customer: Customer | None = None
) -> BillingProblem:
    """Open a problem, or count another occurrence of the one that is open already.

    Runs in the caller's transaction. The first occurrence is logged and counted, for alerts.
    """
    # Two workers may meet the same problem at once; the partial unique index decides.
    [(pk, occurrences)] = fetch(
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
    if occurrences == 1:
        PROBLEMS_OPENED.labels(kind).inc()
        logger.error("billing problem %s %s: %s", kind, subject, summary)
    return BillingProblem.objects.get(pk=pk)


def resolve_problem(*, kind: str, subject: str) -> None:
    """Close the problem, if it is open: its cause is gone."""
    BillingProblem.objects.filter(kind=kind, subject=subject, resolved_at=None).update(
        resolved_at=timezone.now()
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """One line of what staff have to look at, and where the remedy is.

    ``kind`` is a BillingProblem kind, or unmapped_price, unknown_status, two_subscriptions,
    dead_letters, waiting_version, closed_account_pays, wrong_mode, wrong_account, not_reconciled:
    those are read from our own rows and go away with their cause.
    """

    kind: str
    subject: str
    summary: str
    count: int
    since: datetime | None


def problems() -> list[Problem]:
    """Everything open, stored or seen in our rows."""
    stored = [
        Problem(row.kind, row.subject, row.summary, row.occurrences, row.first_seen_at)
        for row in BillingProblem.objects.filter(resolved_at=None)
    ]
    return [
        *_unmapped_prices(),
        *odd_subscriptions(),
        *_stuck_events(),
        *stray_events(),
        *overdue_reconciliation(),
        *stored,
    ]


def _live() -> QuerySet[Subscription]:
    return Subscription.objects.exclude(status__in=set(ACCESS_BY_STATUS) - LIVE_STATUSES)


def _unmapped_prices() -> Iterator[Problem]:
    """Prices that people pay and no plan stands for: plans.catalogue.map_price mends it."""
    rows = _live().filter(price=None).values("stripe_price_id")
    for row in rows.annotate(count=Count("pk"), since=Min("updated_at")).order_by("-count"):
        yield Problem(
            "unmapped_price",
            row["stripe_price_id"],
            "Subscribers pay this price and no plan stands for it. Map it to a plan.",
            row["count"],
            row["since"],
        )


def odd_subscriptions() -> Iterator[Problem]:
    """Statuses we do not know, payers of two, and payers who are gone; ``subject`` finds them."""
    for row in Subscription.objects.exclude(status__in=ACCESS_BY_STATUS):
        yield Problem(
            "unknown_status",
            row.stripe_subscription_id,
            f"Stripe calls it {row.status!r}, which is not known here; the last status holds.",
            1,
            row.updated_at,
        )
    twice = _live().values("customer_id").annotate(count=Count("pk"), since=Max("created_at"))
    for pair in twice.filter(count__gt=1):
        customer = Customer.objects.get(pk=pair["customer_id"])
        yield Problem(
            "two_subscriptions",
            customer.stripe_customer_id or str(customer.pk),
            f"{customer} pays {pair['count']} subscriptions; the highest plan counts.",
            pair["count"],
            pair["since"],
        )
    open_members = Membership.objects.filter(
        organization_id=OuterRef("customer__organization_id"), user__deleted_at=None
    )
    is_empty = Q(customer__organization__isnull=False) & ~Exists(open_members)
    gone = _live().filter(Q(customer__user__deleted_at__isnull=False) | is_empty)
    for row in gone.select_related("customer"):
        what = "account is closed" if row.customer.user_id else "organization has no member left"
        yield Problem(
            "closed_account_pays",
            row.stripe_subscription_id,
            f"The {what} but its subscription runs. Cancel and refund it.",
            1,
            row.updated_at,
        )


def stray_events() -> Iterator[Problem]:
    """Events for somebody else, kept and ignored; ``subject`` is their outcome."""
    groups = (
        (
            "wrong_mode",
            "ignored:mode",
            "Events of the other mode (live or test) come here. Check the endpoint at Stripe and "
            "STRIPE_LIVEMODE.",
        ),
        (
            "wrong_account",
            "ignored:account",
            "Events of another Stripe account come here. Check the endpoint at Stripe.",
        ),
    )
    for kind, outcome, summary in groups:
        strays = StripeEvent.objects.filter(
            state=StripeEvent.State.IGNORED,
            outcome=outcome,
            received_at__gte=timezone.now() - STRAYS_SHOWN_FOR,
        ).aggregate(count=Count("pk"), since=Min("received_at"))
        if strays["count"]:
            yield Problem(kind, outcome, summary, strays["count"], strays["since"])


def overdue_reconciliation() -> Iterator[Problem]:
    """Nothing would catch what webhooks missed."""
    since = timezone.now() - RECONCILED_WITHIN
    if not Subscription.objects.filter(created_at__lt=since).exists():
        return
    last = BillingReconciliation.objects.filter(finished_at__isnull=False).first()
    if last is None or last.started_at < since:
        failed = BillingReconciliation.objects.filter(finished_at=None).first()
        yield Problem(
            "not_reconciled",
            "",
            f"No comparison with Stripe came to its end in {RECONCILED_WITHIN.days} days. "
            + (failed.error if failed else "Are beat and a worker of the bulk queue running?"),
            1,
            None if last is None else last.started_at,
        )


def _stuck_events() -> Iterator[Problem]:
    dead = StripeEvent.objects.filter(state=StripeEvent.State.DEAD).aggregate(
        count=Count("pk"), since=Min("received_at")
    )
    if dead["count"]:
        yield Problem(
            "dead_letters",
            "",
            "Events failed as often as allowed. Mend the cause, then replay them.",
            dead["count"],
            dead["since"],
        )
    waiting = StripeEvent.objects.filter(outcome="quarantined:version").aggregate(
        count=Count("pk"), since=Min("received_at")
    )
    if waiting["count"]:
        yield Problem(
            "waiting_version",
            "",
            "Events of an API version that we do not read yet wait for an upgrade.",
            waiting["count"],
            waiting["since"],
        )

"""What the queue of events costs: each one passes through here, and a burst must not slow it."""

import json
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from plans.inbox import claim_next_event, process_next_event
from plans.models import StripeEvent
from plans.selectors import current_entitlement
from tests.factories import CustomerFactory
from tests.plans.builders import stripe_event, stripe_subscription
from tests.plans.conftest import Catalogue
from tests.plans.wire import Wire

Deliver = Callable[..., Any]


def explained(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql.replace("UPDATE", "EXPLAIN (FORMAT JSON) UPDATE", 1))
        while cursor.nextset():
            pass
        found = cursor.fetchone()[0]
    return json.loads(found) if isinstance(found, str) else found


def steps(plan: Any) -> set[str]:
    """Every kind of step in a query plan, with the index it goes by."""
    if isinstance(plan, list):
        return set().union(*map(steps, plan))
    if not isinstance(plan, dict):
        return set()
    own = (
        {f"{plan['Node Type']} {plan.get('Index Name', '')}".strip()}
        if "Node Type" in plan
        else set()
    )
    return own | steps(list(plan.values()))


def test_a_claim_takes_the_first_entry_even_of_a_queue_that_was_last_seen_empty(db: None) -> None:
    """As after a burst: the statistics know handled events only."""
    now = timezone.now()
    StripeEvent.objects.bulk_create(
        StripeEvent(event_id=f"evt_{n}", livemode=False, created_at=now, state="processed")
        for n in range(300)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE plans_stripeevent")
    with CaptureQueriesContext(connection) as captured:
        assert claim_next_event(now) is None
    taken = steps(explained(captured[0]["sql"]))
    assert "Index Scan stripe_event_queue" in taken
    assert not {step for step in taken if step.startswith(("Sort", "Bitmap", "Seq"))}


def test_a_purchase_costs_a_fixed_handful_of_statements(
    deliver: Deliver,
    wire: Wire,
    plans: Catalogue,
    user: User,
    django_assert_max_num_queries: Any,
) -> None:
    CustomerFactory.create(user=user, stripe_customer_id="cus_1")
    current_entitlement(user)
    wire.put(sub := stripe_subscription())
    deliver(stripe_event("customer.subscription.created", sub))
    with django_assert_max_num_queries(20):  # two of them are the savepoint's
        process_next_event()
    assert current_entitlement(user).plan.code == "plus"

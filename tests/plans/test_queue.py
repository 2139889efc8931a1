"""The queue of events: who works on which, what a dead worker leaves, and what an event costs
(EDGE-CASES section O)."""

import itertools
import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from plans import inbox
from plans.inbox import claim_next_event, process_next_event
from plans.models import Customer, StripeEvent, Subscription
from plans.selectors import current_entitlement
from tests.factories import CustomerFactory
from tests.plans.builders import later, stripe_event, stripe_subscription
from tests.plans.conftest import Catalogue, Deliver
from tests.plans.shop import plan_of, process_all
from tests.plans.wire import Wire


def test_O18_the_sweep_finds_an_event_whose_wake_up_was_lost(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    from plans.tasks import process_events

    wire.put(sub := stripe_subscription())
    deliver(stripe_event("customer.subscription.created", sub))
    process_events()
    assert plan_of(user) == "plus"


def test_O19_a_worker_that_dies_loses_its_claim_in_time(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    deliver(stripe_event("customer.subscription.created", sub))
    now = timezone.now()
    assert claim_next_event(now) is not None  # and then it is killed
    assert not process_next_event(now=now)
    assert process_next_event(now=now + inbox.LEASE + timedelta(seconds=1))
    assert plan_of(user) == "plus"


def test_O19_an_event_that_kills_every_worker_is_set_aside(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    deliver(stripe_event("customer.subscription.created", sub))
    now = timezone.now()
    for _ in range(inbox.MAX_FAILURES):
        assert claim_next_event(now) is not None  # and then it is killed
        now += inbox.LEASE + timedelta(seconds=1)
    assert process_next_event(now=now)
    event = StripeEvent.objects.get()
    assert (event.state, event.last_error) == ("dead", "Workers died while they had it.")
    assert not wire.asked


@pytest.mark.django_db(transaction=True)
def test_O04_workers_never_interleave_on_one_customer(
    deliver: Deliver, wire: Wire, plans: Catalogue, user: User
) -> None:
    """Eight workers, forty events of one customer, and a Stripe that changes at every look."""
    CustomerFactory.create(user=user, stripe_customer_id="cus_1")
    sub = stripe_subscription()
    at_work, most, quantity = 0, 0, itertools.count(1)
    guard = threading.Lock()
    # Each reading is newer than the one before; the last one taken must be the one that stays.
    real_answer = wire._answer

    def answer(method: str, path: str, params: dict[str, str]) -> Any:
        nonlocal at_work, most
        with guard:
            at_work += 1
            most = max(most, at_work)
        item = sub["items"]["data"][0]
        reading = {**sub, "items": {"data": [{**item, "quantity": next(quantity)}]}}
        threading.Event().wait(0.005)
        with guard:
            at_work -= 1
        return (200, reading) if sub["id"] in path else real_answer(method, path, params)

    wire._answer = answer  # type: ignore[method-assign]
    # Without a customer in the event, claiming cannot tell that they belong together.
    for number in range(40):
        about = sub if number % 2 else {**sub, "customer": None}
        deliver(stripe_event("customer.subscription.updated", about))
    Subscription.objects.create(
        customer=user.customer,
        stripe_subscription_id=sub["id"],
        status="incomplete",
        snapshot={"customer": "cus_1"},
        read_at=timezone.now(),
    )

    def work() -> None:
        while process_next_event():
            pass
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process_all(later(seconds=1))
    assert StripeEvent.objects.filter(state="processed").count() == 40
    assert most == 1
    # At least the twenty that coalescing cannot tell belong together were read one by one.
    taken = next(quantity) - 1
    assert taken >= 20
    assert Subscription.objects.get().quantity == taken


def test_one_reading_serves_every_event_that_asked_for_it_before(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription(), other := stripe_subscription(status="canceled"))
    for kind in ("created", "updated", "updated"):
        deliver(stripe_event(f"customer.subscription.{kind}", sub))
    invoice = {"id": "in_1", "object": "invoice", "customer": "cus_1"}
    parent = {"subscription_details": {"subscription": sub["id"]}}
    deliver(stripe_event("invoice.paid", {**invoice, "parent": parent}))
    deliver(stripe_event("customer.subscription.deleted", other))
    process_all()
    outcomes = sorted(StripeEvent.objects.values_list("outcome", flat=True))
    assert outcomes == ["subscription.coalesced"] * 3 + ["subscription.created"] * 2
    assert len([1 for _, path, _ in wire.asked if sub["id"] in path]) == 1
    assert plan_of(user) == "plus"


def test_an_event_whose_change_the_reading_does_not_show_is_not_served_by_it(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    before = stripe_subscription(status="trialing")
    after = {**before, "status": "active"}
    wire.put(before)
    deliver(stripe_event("customer.subscription.created", before))
    deliver(
        stripe_event(
            "customer.subscription.updated", after, previous_attributes={"status": "trialing"}
        )
    )
    process_next_event()
    assert StripeEvent.objects.filter(state="pending").count() == 1


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

"""Idempotency and order: events are hints, so repeats, gaps and any order end the same way
(EDGE-CASES section O)."""

import itertools
import random
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import stripe
from django.utils import timezone

from accounts.models import AuditEntry, User
from plans import handlers, inbox
from plans.inbox import replay
from plans.models import BillingNotice, Customer, StripeEvent, Subscription
from plans.reconciliation import backfill_events, reconcile
from plans.selectors import current_entitlement
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory, UserFactory
from tests.plans.builders import later, seconds, stripe_event, stripe_subscription
from tests.plans.conftest import Catalogue, Deliver, Happen
from tests.plans.shop import plan_of, process_all
from tests.plans.wire import Wire

CAUSE = Cause.system("test")


def _explode(incoming: Any) -> Any:
    raise KeyError("a bug")


def changes() -> int:
    return AuditEntry.objects.filter(action__startswith="subscription.").count()


def test_O01_the_same_event_twice_has_one_effect(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    event = stripe_event("customer.subscription.created", sub)
    for _ in range(2):
        deliver(event)
        process_all()
    assert StripeEvent.objects.get().deliveries == 2
    assert changes() == 1
    assert len(wire.asked) == 1


def test_O03_the_same_change_under_two_ids_has_one_effect(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    first = happen("customer.subscription.created", sub)
    second = happen("customer.subscription.created", sub)
    assert (first.outcome, second.outcome) == ("subscription.created", "subscription.unchanged")
    assert changes() == 1
    assert current_entitlement(user).version == 1


def test_O05_a_failed_attempt_that_is_redelivered_is_not_skipped_as_seen(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    event = stripe_event("customer.subscription.created", sub)
    wire.fault = lambda method, path: (500, {"error": {"message": "down"}})
    deliver(event)
    process_all()
    assert StripeEvent.objects.get().state == "pending"
    wire.fault = None
    deliver(event)
    process_all()
    assert plan_of(user) == "plus"


def test_O06_updated_before_created_ends_active(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.updated", sub, previous_attributes={"status": "incomplete"})
    happen("customer.subscription.created", {**sub, "status": "incomplete"})
    assert plan_of(user) == "plus"


def test_O07_deleted_before_updated_stays_canceled(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    active = stripe_subscription()
    wire.put({**active, "status": "canceled"})
    happen("customer.subscription.deleted", {**active, "status": "canceled"})
    happen("customer.subscription.updated", active)
    assert Subscription.objects.get().status == "canceled"
    assert plan_of(user) == "free"


def test_O08_O10_created_three_days_late_changes_nothing_and_is_called_stale(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    active = stripe_subscription()
    wire.put({**active, "status": "canceled"})
    happen("customer.subscription.deleted", {**active, "status": "canceled"})
    before = Subscription.objects.values().get()
    event = happen("customer.subscription.created", active, created=seconds(later(days=-3)))
    after = Subscription.objects.values().get()
    told = {"read_at", "updated_at"}
    assert {k: v for k, v in before.items() if k not in told} == {
        k: v for k, v in after.items() if k not in told
    }
    assert event.outcome == "subscription.stale"


LIFE = [
    ("customer.subscription.created", "incomplete", None),
    ("customer.subscription.updated", "active", {"status": "incomplete"}),
    ("invoice.paid", "active", None),
    ("customer.subscription.updated", "past_due", {"status": "active"}),
    ("customer.subscription.deleted", "canceled", None),
]


@pytest.mark.parametrize("last", range(len(LIFE)))
def test_O09_O11_any_order_repeats_and_losses_converge(
    deliver: Deliver, wire: Wire, plans: Catalogue, last: int
) -> None:
    """All orders of the events up to ``last``, with repeats and losses, all in one second."""
    created = seconds(timezone.now())
    orders = list(itertools.permutations(range(last + 1)))
    rng = random.Random(last)
    for number, order in enumerate(rng.sample(orders, min(len(orders), 24))):
        owner = UserFactory.create()
        cus = f"cus_{last}_{number}"
        CustomerFactory.create(user=owner, stripe_customer_id=cus)
        sub = stripe_subscription(customer=cus, status=LIFE[last][1])
        wire.put(sub)
        delivered = [step for step in order for _ in range(rng.choice([0, 1, 1, 2]))]
        for step in delivered:
            kind, status, previous = LIFE[step]
            about = {**sub, "status": status}
            if kind == "invoice.paid":
                about = {
                    "id": f"in_{cus}",
                    "object": "invoice",
                    "customer": cus,
                    "parent": {"subscription_details": {"subscription": sub["id"]}},
                }
            deliver(
                stripe_event(
                    kind,
                    about,
                    created=created,
                    **({"previous_attributes": previous} if previous else {}),
                )
            )
        process_all(later(minutes=1))
        if not delivered:
            reconcile(cause=CAUSE)
        expected = "plus" if LIFE[last][1] in {"active", "past_due"} else "free"
        assert plan_of(owner) == expected, (order, delivered)


def test_O12_an_object_that_stripe_does_not_know_counts_as_deleted(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub)
    wire.remove(sub["id"])
    event = happen("customer.subscription.updated", sub)
    assert event.outcome == "subscription.vanished"
    assert plan_of(user) == "free"
    # And if it was only lost for a while, it comes back.
    wire.put(sub)
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_O13_stripe_failing_leaves_the_event_pending_and_writes_nothing(
    happen: Happen, wire: Wire, user: User, customer: Customer, status: int
) -> None:
    wire.put(sub := stripe_subscription())
    wire.fault = lambda method, path: (status, {"error": {"message": "no"}})
    event = happen("customer.subscription.created", sub)
    assert (event.state, event.attempts) == ("pending", 1)
    assert event.next_attempt_at > timezone.now()
    assert not Subscription.objects.exists()
    wire.fault = None
    process_all(later(hours=1))
    assert plan_of(user) == "plus"


def test_O13_a_time_out_leaves_the_event_pending(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    def time_out(method: str, path: str) -> Any:
        raise stripe.APIConnectionError("timed out")

    wire.put(sub := stripe_subscription())
    wire.fault = time_out
    event = happen("customer.subscription.created", sub)
    assert event.state == "pending"
    assert "no answer" in event.last_error


def test_O13_stripe_down_for_hours_never_dead_letters(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    wire.fault = lambda method, path: (503, {"error": {"message": "no"}})
    deliver(stripe_event("customer.subscription.created", sub))
    for hours in range(1, 40):
        process_all(later(hours=hours))
    event = StripeEvent.objects.get()
    assert event.state == "pending"
    assert (event.attempts > inbox.MAX_FAILURES, event.failures) == (True, 0)


def test_O13_an_outage_before_a_failure_of_ours_does_not_count_as_one(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    wire.fault = lambda method, path: (503, {"error": {"message": "no"}})
    deliver(stripe_event("customer.subscription.created", sub))
    for hours in range(1, 20):
        process_all(later(hours=hours))
    wire.fault = None
    with mock.patch.dict(handlers.HANDLERS, {"customer.subscription.created": _explode}):
        process_all(later(hours=21))
    event = StripeEvent.objects.get()
    assert (event.state, event.failures) == ("pending", 1)


def test_O14_an_answer_from_before_the_event_is_asked_for_again(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    before = stripe_subscription(status="incomplete")
    after = {**before, "status": "active"}
    wire.put(before)
    event = happen(
        "customer.subscription.updated", after, previous_attributes={"status": "incomplete"}
    )
    assert event.state == "pending"
    assert not Subscription.objects.exists()
    wire.put(after)
    process_all(later(seconds=5))
    assert plan_of(user) == "plus"


def test_O14_a_change_that_was_undone_is_believed_in_the_end(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen(
        "customer.subscription.updated",
        {**sub, "status": "past_due"},
        previous_attributes={"status": "active"},
    )
    for seconds_later in (5, 10, 15):
        process_all(later(seconds=seconds_later))
    assert StripeEvent.objects.get().state == "processed"
    assert plan_of(user) == "plus"


def test_O15_a_poison_event_is_set_aside_and_hurts_nobody_else(
    deliver: Deliver, wire: Wire, user: User, customer: Customer, monkeypatch: Any
) -> None:
    wire.put(sub := stripe_subscription())
    monkeypatch.setitem(handlers.HANDLERS, "invoice.paid", _explode)
    deliver(stripe_event("invoice.paid", {"id": "in_1", "customer": "cus_1"}))
    for minutes in range(0, 400, 20):
        process_all(later(minutes=minutes))
    poison = StripeEvent.objects.get()
    assert (poison.state, poison.failures) == ("dead", inbox.MAX_FAILURES)
    assert "KeyError" in poison.last_error
    # A later event of the same subscription still brings it up to date.
    deliver(stripe_event("customer.subscription.updated", sub))
    process_all()
    assert plan_of(user) == "plus"


def test_O15_a_dead_letter_can_be_replayed_once_the_cause_is_mended(
    deliver: Deliver, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    deliver(stripe_event("customer.subscription.updated", sub))
    StripeEvent.objects.update(state="dead", attempts=9, failures=inbox.MAX_FAILURES)
    replay(events=StripeEvent.objects.all(), cause=CAUSE)
    process_all()
    assert StripeEvent.objects.get().state == "processed"
    assert plan_of(user) == "plus"


def test_O16_replaying_everything_changes_nothing_and_mails_nobody_again(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="trialing", trial_end=seconds(later(days=2)))
    wire.put(sub)
    happen("customer.subscription.created", sub)
    happen("customer.subscription.trial_will_end", sub)
    entitlement = current_entitlement(user)
    rows = changes(), BillingNotice.objects.count(), Subscription.objects.count()
    replay(events=StripeEvent.objects.all(), cause=CAUSE)
    process_all()
    assert (changes(), BillingNotice.objects.count(), Subscription.objects.count()) == rows
    assert current_entitlement(user).version == entitlement.version


def test_O16_a_pruned_event_can_be_replayed(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub)
    assert inbox.prune_payloads(older_than=timedelta(0), now=later(seconds=1)) == 1
    Subscription.objects.update(status="canceled")
    replay(events=StripeEvent.objects.all(), cause=CAUSE)
    process_all()
    assert plan_of(user) == "plus"


def test_O17_an_object_never_seen_is_taken_from_stripe(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.paused", {"id": sub["id"], "customer": "cus_1"})
    assert Subscription.objects.get().stripe_subscription_id == sub["id"]


def test_O20_four_days_without_an_endpoint_heal_from_stripes_own_list(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub)
    backfill_events()
    wire.put({**sub, "status": "canceled"})
    for number in range(150):
        wire.put(
            stripe_event(
                "customer.subscription.updated",
                sub,
                created=seconds(later(minutes=number)),
                id=f"evt_lost_{number:03}",
            )
        )
    backfill = backfill_events(at=later(days=4))
    assert (backfill.listed, backfill.added) == (150, 150)
    process_all(later(days=4))
    assert plan_of(user) == "free"
    assert backfill_events(at=later(days=4)).added == 0


def test_O20_a_failed_backfill_is_not_marked_as_done(wire: Wire, plans: Catalogue) -> None:
    from plans.errors import StripeUnavailable
    from plans.models import EventBackfill

    wire.fault = lambda method, path: (500, {"error": {"message": "no"}})
    with pytest.raises(StripeUnavailable):
        backfill_events()
    assert not EventBackfill.objects.exists()


@pytest.mark.parametrize("skew", [-86_400 * 30, 86_400 * 30])
def test_O21_the_event_clock_decides_nothing(
    happen: Happen, wire: Wire, user: User, customer: Customer, skew: int
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub, created=seconds(timezone.now()) + skew)
    wire.put({**sub, "status": "canceled"})
    happen("customer.subscription.deleted", sub, created=seconds(timezone.now()) - skew)
    assert plan_of(user) == "free"

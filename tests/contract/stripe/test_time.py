"""What time does, with Stripe's own test clocks."""

from datetime import UTC, datetime

import pytest

from tests.contract.stripe.conftest import Target

pytestmark = pytest.mark.contract

DAY, HOUR = 86_400, 3600


def on_clock(target: Target, moment: int | None = None, method: str = "pm_card_visa"):
    clock = target.clock(moment)
    frozen = target.v1.test_helpers.test_clocks.retrieve(clock).frozen_time
    return clock, frozen, target.customer(method, test_clock=clock)


def test_renewal_moves_the_period_and_is_paid(target: Target):
    clock, _, customer = on_clock(target)
    sub = target.subscribe(customer.id, target.price(1500).id)
    end = sub.items.data[0].current_period_end
    target.advance(clock, end + 2 * HOUR)
    now = target.v1.subscriptions.retrieve(sub.id, {"expand": ["latest_invoice"]})
    assert now.status == "active"
    assert now.items.data[0].current_period_start == end
    assert now.latest_invoice.billing_reason == "subscription_cycle"
    assert (now.latest_invoice.status, now.latest_invoice.total) == ("paid", 1500)


def test_failed_renewal_is_past_due_and_paying_it_brings_it_back(target: Target):
    clock, _, customer = on_clock(target)
    sub = target.subscribe(customer.id, target.price().id)
    target.use_method(customer.id, "pm_card_chargeCustomerFail")
    target.advance(clock, sub.items.data[0].current_period_end + 2 * HOUR)
    late = target.v1.subscriptions.retrieve(sub.id, {"expand": ["latest_invoice"]})
    assert (late.status, late.latest_invoice.status) == ("past_due", "open")
    assert late.latest_invoice.attempt_count == 1
    assert late.latest_invoice.next_payment_attempt is not None
    target.use_method(customer.id, "pm_card_visa")
    paid = target.v1.invoices.pay(late.latest_invoice.id)
    assert paid.status == "paid"
    assert target.v1.subscriptions.retrieve(sub.id).status == "active"


def test_planned_cancellation_happens_at_the_period_end(target: Target):
    clock, _, customer = on_clock(target)
    sub = target.subscribe(customer.id, target.price().id)
    end = sub.items.data[0].current_period_end
    target.v1.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    target.advance(clock, end + HOUR)
    ended = target.v1.subscriptions.retrieve(sub.id)
    assert (ended.status, ended.ended_at) == ("canceled", end)
    assert ended.cancellation_details.reason == "cancellation_requested"


def test_trial_ends_and_is_billed(target: Target):
    clock, _, customer = on_clock(target)
    sub = target.subscribe(customer.id, target.price(1500).id, trial_period_days=7)
    target.advance(clock, sub.trial_end + 2 * HOUR)
    now = target.v1.subscriptions.retrieve(sub.id, {"expand": ["latest_invoice"]})
    assert (now.status, now.latest_invoice.total) == ("active", 1500)
    assert now.items.data[0].current_period_start == sub.trial_end


def test_trial_without_a_card_may_pause(target: Target):
    clock = target.clock()
    customer = target.customer(None, test_clock=clock)
    sub = target.subscribe(
        customer.id,
        target.price().id,
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": "pause"}},
    )
    target.advance(clock, sub.trial_end + 2 * HOUR)
    assert target.v1.subscriptions.retrieve(sub.id).status == "paused"


def test_incomplete_expires_after_23_hours(target: Target):
    clock, frozen, customer = on_clock(target)
    target.use_method(customer.id, "pm_card_chargeCustomerFail")
    sub = target.subscribe(customer.id, target.price().id)
    target.advance(clock, frozen + 24 * HOUR)
    expired = target.v1.subscriptions.retrieve(sub.id, {"expand": ["latest_invoice"]})
    assert (expired.status, expired.latest_invoice.status) == ("incomplete_expired", "void")


def test_B37_anchored_on_the_31st_renews_on_the_last_of_february(target: Target):
    start = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
    clock, _, customer = on_clock(target, start)
    sub = target.subscribe(customer.id, target.price().id)
    end = sub.items.data[0].current_period_end
    assert datetime.fromtimestamp(end, UTC).strftime("%m-%d") == "02-28"
    target.advance(clock, end + 2 * HOUR)
    end = target.v1.subscriptions.retrieve(sub.id).items.data[0].current_period_end
    assert datetime.fromtimestamp(end, UTC).strftime("%m-%d") == "03-31"


def test_downgrade_by_schedule_takes_effect_with_the_renewal(target: Target):
    clock, _, customer = on_clock(target)
    high, low = target.price(5000).id, target.price(1000).id
    sub = target.subscribe(customer.id, high)
    schedule = target.v1.subscription_schedules.create({"from_subscription": sub.id})
    phase = schedule.phases[0]
    target.v1.subscription_schedules.update(
        schedule.id,
        {
            "phases": [
                {
                    "items": [{"price": high, "quantity": 1}],
                    "start_date": phase.start_date,
                    "end_date": phase.end_date,
                },
                {"items": [{"price": low, "quantity": 1}], "proration_behavior": "none"},
            ]
        },
    )
    assert target.v1.subscriptions.retrieve(sub.id).items.data[0].price.id == high
    target.advance(clock, phase.end_date + 2 * HOUR)
    now = target.v1.subscriptions.retrieve(sub.id, {"expand": ["latest_invoice"]})
    assert now.items.data[0].price.id == low
    assert now.latest_invoice.total == 1000

"""What happens by itself: renewals, trials, dunning, pauses, schedules, usage."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from sandbox.stripe.behaviour import Behaviour
from sandbox.stripe.clock import ManualClock
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.errors import CardDeclined, InvalidRequest
from tests.sandbox.stripe.conftest import Cast

DAY = 86_400
Told = Callable[[], list[str]]


def test_renewal_moves_the_period_at_once_and_charges_an_hour_later(cast: Cast, told: Told):
    sub = cast.subscribe()
    end = sub["items"]["data"][0]["current_period_end"]
    cast.engine.advance_to(end - 1)
    told()
    cast.engine.advance(1)
    assert told() == ["customer.subscription.updated", "invoice.created"]
    assert cast.invoice(sub)["status"] == "draft"
    assert cast.again(sub)["items"]["data"][0]["current_period_start"] == end
    cast.engine.advance(3600)
    assert cast.invoice(sub)["status"] == "paid"
    assert told()[0] == "invoice.finalized"
    assert cast.invoice(sub)["billing_reason"] == "subscription_cycle"


def test_V16_upcoming_invoice_is_announced_a_week_before_without_an_id(cast: Cast, told: Told):
    sub = cast.subscribe()
    told()
    cast.engine.advance(days=25)
    assert told() == ["invoice.upcoming"]
    announced = cast.engine.events()[-1].as_json()["data"]["object"]
    assert "id" not in announced
    assert announced["total"] == 2000
    assert cast.again(sub) == sub


def test_B37_anchored_on_the_31st_renews_on_the_last_day_of_short_months():
    start = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())
    engine = StripeEngine(clock=ManualClock(start), seed=1)
    price = engine.create_price(unit_amount=1000)
    sub = engine.subscribe(engine.create_customer()["id"], price["id"])
    ends = []
    for _ in range(3):
        end = engine.object(sub["id"])["items"]["data"][0]["current_period_end"]
        ends.append(datetime.fromtimestamp(end, UTC).strftime("%m-%d"))
        engine.advance_past_renewal(sub["id"])
    assert ends == ["02-28", "03-31", "04-30"]


def test_years_pass_in_one_step(cast: Cast):
    sub = cast.subscribe()
    cast.engine.advance(days=366 * 2)
    paid = [invoice["status"] for invoice in cast.engine.objects("invoice")]
    assert paid.count("paid") >= 24
    assert cast.status(sub) == "active"


# --- dunning


def test_B07_failed_renewal_makes_it_past_due(cast: Cast, told: Told):
    sub = cast.subscribe()
    cast.engine.fail_payments(cast.customer)
    told()
    cast.engine.advance_past_renewal(sub["id"])
    assert cast.status(sub) == "past_due"
    invoice = cast.invoice(sub)
    assert (invoice["status"], invoice["attempt_count"]) == ("open", 1)
    assert invoice["next_payment_attempt"] == invoice["status_transitions"]["finalized_at"] + DAY
    heard = told()
    assert "invoice.payment_failed" in heard
    assert heard[-1] == "customer.subscription.updated"


def test_B08_a_retry_that_succeeds_makes_it_active_again(cast: Cast):
    sub = cast.subscribe()
    cast.engine.fail_payments(cast.customer)
    cast.engine.advance_past_renewal(sub["id"])
    cast.engine.advance(days=1)
    assert cast.status(sub) == "active"
    assert cast.invoice(sub)["status"] == "paid"


def test_B10_nine_attempts_in_fourteen_days_then_it_is_canceled(cast: Cast):
    sub = cast.subscribe()
    cast.engine.fail_payments(cast.customer, 99)
    cast.engine.advance_past_renewal(sub["id"])
    failed_at = cast.engine.now()
    cast.engine.advance(days=14)
    ended = cast.again(sub)
    assert ended["status"] == "canceled"
    assert ended["cancellation_details"]["reason"] == "payment_failed"
    assert 13.9 < (ended["ended_at"] - failed_at) / DAY <= 14
    invoice = cast.invoice(sub)
    assert (invoice["attempt_count"], invoice["status"]) == (9, "open")
    assert invoice["auto_advance"] is False


@pytest.mark.parametrize(("choice", "status"), [("unpaid", "unpaid"), ("past_due", "past_due")])
def test_B09_the_account_chooses_what_the_last_retry_ends_in(cast: Cast, choice: str, status: str):
    cast.engine.world.behaviour.update({"dunning_end": choice})
    sub = cast.subscribe()
    cast.engine.fail_payments(cast.customer, 99)
    cast.engine.advance(days=31 + 15)
    assert cast.status(sub) == status


def test_unpaid_goes_on_drafting_and_paying_the_latest_invoice_revives_it(cast: Cast):
    cast.engine.world.behaviour.update({"dunning_end": "unpaid"})
    sub = cast.subscribe()
    cast.engine.fail_payments(cast.customer, 9)
    cast.engine.advance(days=31 + 15)
    cast.engine.advance(days=31)
    draft = cast.invoice(sub)
    assert (draft["status"], draft["auto_advance"]) == ("draft", False)
    cast.engine.pay_invoice(draft["id"])
    assert cast.status(sub) == "active"


def test_payment_by_hand_does_not_move_the_retry_schedule(cast: Cast):
    sub = cast.subscribe()
    cast.engine.fail_payments(cast.customer, 3)
    cast.engine.advance_past_renewal(sub["id"])
    before = cast.invoice(sub)["next_payment_attempt"]
    with pytest.raises(CardDeclined) as refusal:
        cast.engine.pay_invoice(cast.invoice(sub)["id"])
    assert refusal.value.code == "card_declined"
    assert cast.invoice(sub)["next_payment_attempt"] == before
    # The attempt stays on record although the call was refused.
    assert len([c for c in cast.engine.objects("charge") if c["status"] == "failed"]) == 2


def test_writing_off_the_latest_invoice_makes_it_active_voiding_does_too_if_the_rest_is_paid(
    cast: Cast,
):
    for way in ("mark_uncollectible", "void"):
        sub = cast.subscribe()
        cast.engine.fail_payments(cast.customer)
        cast.engine.advance_past_renewal(sub["id"])
        assert cast.status(sub) == "past_due"
        cast.engine.request("POST", f"/v1/invoices/{cast.invoice(sub)['id']}/{way}")
        assert cast.status(sub) == "active"
        cast.engine.cancel(sub["id"])


def test_B32_invoice_by_mail_becomes_overdue_and_then_ends_it(cast: Cast, told: Told):
    sub = cast.subscribe(collection_method="send_invoice", days_until_due=7)
    assert sub["status"] == "active"
    assert cast.invoice(sub)["due_date"] == cast.engine.now() + 7 * DAY
    told()
    cast.engine.advance(days=7)
    assert cast.status(sub) == "past_due"
    assert "invoice.overdue" in told()
    cast.engine.advance(days=30)
    assert cast.status(sub) == "canceled"


# --- trials


def test_B01_trial_costs_nothing_and_B02_its_end_is_announced_once(cast: Cast, told: Told):
    sub = cast.subscribe(trial_period_days=14)
    assert sub["status"] == "trialing"
    assert sub["trial_end"] == cast.engine.now() + 14 * DAY
    assert cast.invoice(sub)["total"] == 0
    told()
    cast.engine.advance(days=11)
    cast.engine.advance(days=2)
    assert told().count("customer.subscription.trial_will_end") == 1


def test_B03_trial_ends_and_is_paid_from_its_end_on(cast: Cast):
    sub = cast.subscribe(trial_period_days=14)
    cast.engine.advance(days=14, seconds=3600)
    now = cast.again(sub)
    assert now["status"] == "active"
    assert now["items"]["data"][0]["current_period_start"] == sub["trial_end"]
    assert (cast.invoice(sub)["total"], cast.invoice(sub)["status"]) == (2000, "paid")


@pytest.mark.parametrize(
    ("choice", "status", "event"),
    [
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("pause", "paused", "customer.subscription.paused"),
        ("create_invoice", "past_due", "invoice.payment_failed"),
    ],
)
def test_B04_trial_ends_without_a_card(
    cast: Cast, told: Told, choice: str, status: str, event: str
):
    poor = cast.engine.create_customer(method=None)
    end = {"end_behavior": {"missing_payment_method": choice}}
    sub = cast.engine.subscribe(poor["id"], cast.plus, trial_period_days=7, trial_settings=end)
    cast.engine.advance(days=7, seconds=3600)
    assert cast.status(sub) == status
    assert event in told()


def test_trial_ended_by_hand_bills_now(cast: Cast):
    sub = cast.subscribe(trial_period_days=14)
    cast.engine.advance(days=3)
    now = cast.engine.update_subscription(sub["id"], trial_end="now")
    assert now["status"] == "active"
    assert cast.invoice(sub)["total"] == 2000


# --- pauses


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [("void", "void"), ("mark_uncollectible", "uncollectible"), ("keep_as_draft", "draft")],
)
def test_B23_paused_collection_leaves_the_status_active(cast: Cast, behaviour: str, status: str):
    sub = cast.subscribe()
    cast.engine.update_subscription(sub["id"], pause_collection={"behavior": behaviour})
    cast.engine.advance_past_renewal(sub["id"])
    assert cast.status(sub) == "active"
    assert cast.invoice(sub)["status"] == status


def test_B23_paused_collection_resumes_at_its_moment(cast: Cast):
    sub = cast.subscribe()
    back = cast.engine.now() + 10 * DAY
    cast.engine.update_subscription(
        sub["id"], pause_collection={"behavior": "void", "resumes_at": back}
    )
    cast.engine.advance(days=10)
    assert cast.again(sub)["pause_collection"] is None


def test_B23_paused_subscription_says_why_and_bills_nothing(cast: Cast, told: Told):
    sub = cast.subscribe()
    told()
    paused = cast.engine.pause(sub["id"])
    assert paused["status"] == "paused"
    assert paused["status_details"]["paused"]["subscription"]["type"] == "pause_requested"
    assert "customer.subscription.paused" in told()
    before = len(cast.engine.objects("invoice"))
    cast.engine.advance(days=90)
    assert len(cast.engine.objects("invoice")) == before


def test_B23_resumed_subscription_starts_a_new_period_and_is_billed(cast: Cast, told: Told):
    sub = cast.subscribe()
    cast.engine.pause(sub["id"])
    cast.engine.advance(days=90)
    told()
    resumed = cast.engine.resume(sub["id"])
    assert (resumed["status"], resumed["status_details"]) == ("active", None)
    assert resumed["items"]["data"][0]["current_period_start"] == cast.engine.now()
    assert cast.invoice(sub)["lines"]["data"][-1]["amount"] == 2000
    assert "customer.subscription.resumed" in told()
    with pytest.raises(InvalidRequest, match="only resume a paused"):
        cast.engine.resume(sub["id"])


# --- schedules


def scheduled_downgrade(cast: Cast):
    sub = cast.subscribe(cast.pro)
    made = cast.engine.request(
        "POST", "/v1/subscription_schedules", {"from_subscription": sub["id"]}
    )
    phase = made["phases"][0]
    cast.engine.request(
        "POST",
        f"/v1/subscription_schedules/{made['id']}",
        {
            "phases": [
                {
                    "items": [{"price": cast.pro, "quantity": 1}],
                    "start_date": phase["start_date"],
                    "end_date": phase["end_date"],
                },
                {"items": [{"price": cast.plus, "quantity": 1}]},
            ]
        },
    )
    return sub, made["id"]


def test_B19_next_phase_brings_its_price_with_the_renewal(cast: Cast, told: Told):
    sub, schedule = scheduled_downgrade(cast)
    assert cast.again(sub)["items"]["data"][0]["price"]["id"] == cast.pro
    told()
    cast.engine.advance_past_renewal(sub["id"])
    assert cast.again(sub)["items"]["data"][0]["price"]["id"] == cast.plus
    assert [line["amount"] for line in cast.invoice(sub)["lines"]["data"]] == [2000]
    assert "subscription_schedule.updated" in told()
    assert cast.engine.object(schedule)["status"] == "active"


def test_B19_schedule_is_released_after_its_last_phase(cast: Cast):
    sub, schedule = scheduled_downgrade(cast)
    cast.engine.advance(days=63)
    done = cast.engine.object(schedule)
    assert (done["status"], done["released_subscription"]) == ("released", sub["id"])
    assert cast.again(sub)["schedule"] is None
    assert cast.status(sub) == "active"


def test_B19_schedule_of_a_defaulter_is_aborted(cast: Cast, told: Told):
    _, schedule = scheduled_downgrade(cast)
    cast.engine.fail_payments(cast.customer, 99)
    cast.engine.advance(days=31 + 15)
    assert cast.engine.object(schedule)["status"] == "canceled"
    assert "subscription_schedule.aborted" in told()


def test_schedule_may_start_later_and_end_the_subscription(cast: Cast):
    begin = cast.engine.now() + 5 * DAY
    made = cast.engine.request(
        "POST",
        "/v1/subscription_schedules",
        {
            "customer": cast.customer,
            "start_date": begin,
            "end_behavior": "cancel",
            "phases": [{"items": [{"price": cast.plus}]}],
        },
    )
    assert made["status"] == "not_started"
    cast.engine.advance(days=5)
    sub = cast.engine.object(made["id"])["subscription"]
    assert cast.engine.object(sub)["status"] == "active"
    cast.engine.advance(days=31)
    assert cast.engine.object(sub)["status"] == "canceled"
    assert cast.engine.object(made["id"])["status"] == "completed"


def test_cancellation_of_a_scheduled_subscription_goes_through_the_schedule(cast: Cast):
    sub, schedule = scheduled_downgrade(cast)
    with pytest.raises(InvalidRequest, match="managed by the subscription schedule"):
        cast.engine.cancel(sub["id"], at_period_end=True)
    cast.engine.request("POST", f"/v1/subscription_schedules/{schedule}/release")
    assert cast.engine.cancel(sub["id"], at_period_end=True)["cancel_at_period_end"]


# --- usage


def test_metered_usage_is_billed_when_its_period_is_over():
    engine = StripeEngine(seed=3, behaviour=Behaviour(draft_seconds=0))
    meter = engine.request(
        "POST",
        "/v1/billing/meters",
        {
            "display_name": "Tokens",
            "event_name": "tokens",
            "default_aggregation": {"formula": "sum"},
        },
    )
    price = engine.request(
        "POST",
        "/v1/prices",
        {
            "currency": "usd",
            "unit_amount": 3,
            "product_data": {"name": "Tokens"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter["id"]},
        },
    )
    customer = engine.create_customer()["id"]
    sub = engine.request(
        "POST", "/v1/subscriptions", {"customer": customer, "items": [{"price": price["id"]}]}
    )
    payload = {"stripe_customer_id": customer, "value": "40"}
    for identifier in ("a", "b"):
        engine.request(
            "POST",
            "/v1/billing/meter_events",
            {"event_name": "tokens", "payload": payload, "identifier": identifier},
        )
    with pytest.raises(InvalidRequest, match="already exists"):
        engine.request(
            "POST",
            "/v1/billing/meter_events",
            {"event_name": "tokens", "payload": payload, "identifier": "a"},
        )
    engine.advance_past_renewal(sub["id"])
    assert engine.object(engine.object(sub["id"])["latest_invoice"])["total"] == 80 * 3

"""Subscription events: whatever Stripe says now is what the payer has (EDGE-CASES section B)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry, User
from plans.entitlements import refresh_due
from plans.models import BillingNotice, BillingProblem, CurrentEntitlement, Customer, Subscription
from plans.selectors import current_entitlement
from plans.subscriptions import read_back
from tesslate.lib.cause import Cause
from tests.factories import PriceFactory
from tests.plans.builders import (
    from_now,
    old_shape,
    seconds,
    stripe_invoice,
    stripe_item,
    stripe_subscription,
)
from tests.plans.conftest import Catalogue, Happen
from tests.plans.shop import plan_of
from tests.plans.wire import Wire

CAUSE = Cause.system("test")


def test_B01_trialing_gives_the_plan(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="trialing", trial_end=from_now(days=3))
    wire.put(sub)
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "plus"
    assert current_entitlement(user).changes_at == datetime.fromtimestamp(sub["trial_end"], UTC)


def test_B02_trial_will_end_makes_one_mail_only(
    happen: Happen, wire: Wire, user: User, customer: Customer, mailoutbox: list[Any]
) -> None:
    from plans.notices import send_next_notice

    sub = stripe_subscription(status="trialing", trial_end=from_now(days=3))
    wire.put(sub)
    for _ in range(3):
        happen("customer.subscription.trial_will_end", sub)
    while send_next_notice():
        pass
    assert [mail.to for mail in mailoutbox] == [[user.email]]
    assert BillingNotice.objects.get().sent_at is not None


def test_B03_trial_ends_paid_and_the_window_is_anchored_anew(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="trialing", trial_end=from_now(seconds=1))
    wire.put(sub)
    happen("customer.subscription.created", sub)
    before = current_entitlement(user)
    item = {
        **sub["items"]["data"][0],
        "current_period_start": from_now(),
        "current_period_end": from_now(days=30),
    }
    paid = {**sub, "status": "active", "items": {"object": "list", "data": [item]}}
    wire.put(paid)
    happen("customer.subscription.updated", paid, previous_attributes={"status": "trialing"})
    after = current_entitlement(user)
    assert after.period_start == datetime.fromtimestamp(item["current_period_start"], UTC)
    assert after.version == before.version + 1


@pytest.mark.parametrize("status", ["canceled", "paused", "past_due"])
def test_B04_trial_ends_without_a_card(
    happen: Happen, wire: Wire, user: User, customer: Customer, status: str
) -> None:
    sub = stripe_subscription(status="trialing", trial_end=from_now(seconds=1))
    wire.put(sub)
    happen("customer.subscription.created", sub)
    ended = {**sub, "status": status}
    wire.put(ended, stripe_invoice(sub["id"], created=from_now(), status_transitions={}))
    happen("customer.subscription.updated", ended, previous_attributes={"status": "trialing"})
    assert plan_of(user) == ("plus" if status == "past_due" else "free")


def test_B05_incomplete_gives_nothing_until_it_is_active(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="incomplete")
    wire.put(sub)
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "free"
    wire.put({**sub, "status": "active"})
    happen("customer.subscription.updated", sub, previous_attributes={"status": "incomplete"})
    assert plan_of(user) == "plus"


def test_B06_incomplete_expired_is_final(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="incomplete_expired")
    wire.put(sub)
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "free"
    # A lagging answer does not bring it back.
    wire.put({**sub, "status": "active"})
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "free"


def test_B13_cancel_at_period_end_and_un_cancel(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    item = stripe_item(current_period_end=from_now(days=5), current_period_start=from_now(days=-20))
    sub = stripe_subscription(items=[item])
    wire.put({**sub, "cancel_at_period_end": True})
    happen("customer.subscription.updated", sub)
    ends_at = datetime.fromtimestamp(item["current_period_end"], UTC)
    assert plan_of(user) == "plus"
    assert current_entitlement(user).changes_at == ends_at
    wire.put(sub)
    happen("customer.subscription.updated", sub)
    refresh_due(at=ends_at)
    assert CurrentEntitlement.objects.get(user=user).plan.code == "plus"


def test_B13_cancel_at_a_date_takes_effect_by_the_clock(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(cancel_at=from_now(days=2))
    wire.put(sub)
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"
    refresh_due(at=datetime.fromtimestamp(sub["cancel_at"], UTC))
    assert CurrentEntitlement.objects.get(user=user).plan.code == "free"


def test_B16_B17_up_at_once_and_down_when_stripe_says(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    wire.put(sub)
    happen("customer.subscription.created", sub)
    for price, plan in [("price_pro", "pro"), ("price_plus", "plus")]:
        wire.put({**sub, "items": {"data": [stripe_item(price)]}})
        happen("customer.subscription.updated", sub)
        assert plan_of(user) == plan


def test_B18_monthly_to_yearly_keeps_monthly_budget_windows(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    PriceFactory.create(plan=plans.plus, stripe_price_id="price_plus_year", interval="year")
    start = timezone.now().replace(microsecond=0) - timedelta(days=40)
    item = stripe_item(
        "price_plus_year",
        current_period_start=seconds(start),
        current_period_end=seconds(start + timedelta(days=365)),
    )
    wire.put(sub := stripe_subscription(items=[item]))
    happen("customer.subscription.updated", sub)
    entitlement = current_entitlement(user)
    assert entitlement.plan.code == "plus"
    assert entitlement.period_end - entitlement.period_start <= timedelta(days=31)
    assert entitlement.period_start.day == min(start.day, entitlement.period_start.day)


def test_B19_a_schedule_alone_changes_nothing_but_is_shown(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    schedule = {
        "id": "sub_sched_1",
        "object": "subscription_schedule",
        "status": "active",
        "current_phase": {"start_date": from_now(days=-10), "end_date": from_now(days=20)},
        "phases": [
            {"start_date": from_now(days=-10), "items": [{"price": "price_pro"}]},
            {"start_date": from_now(days=20), "items": [{"price": "price_plus"}]},
        ],
    }
    sub = stripe_subscription(price="price_pro", schedule=schedule)
    wire.put(sub)
    happen(
        "subscription_schedule.updated",
        {**schedule, "subscription": sub["id"], "customer": "cus_1"},
    )
    assert plan_of(user) == "pro"
    change = Subscription.objects.get().pending_change
    assert change is not None
    assert change["prices"] == ["price_plus"]
    happen("subscription_schedule.created", {"id": "sub_sched_2", "customer": "cus_1"})


def test_B20_two_live_subscriptions_the_highest_counts_and_one_may_go(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    low, high = stripe_subscription(), stripe_subscription(price="price_pro")
    wire.put(low, high)
    happen("customer.subscription.created", low)
    happen("customer.subscription.created", high)
    assert plan_of(user) == "pro"
    wire.put({**high, "status": "canceled"})
    happen("customer.subscription.deleted", {**high, "status": "canceled"})
    assert plan_of(user) == "plus"


def test_B21_add_ons_order_and_further_pages_do_not_matter(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(items=[stripe_item("price_addon")])
    sub["items"]["has_more"] = True
    wire.put(sub, stripe_item("price_addon", subscription=sub["id"], created=2))
    wire.put(stripe_item("price_pro", subscription=sub["id"], created=1))
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "pro"


def test_B22_the_window_is_the_plan_items_not_the_add_ons(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    addon = stripe_item("price_addon", current_period_end=from_now(days=300))
    plan = stripe_item(
        "price_plus", current_period_start=from_now(days=-3), current_period_end=from_now(days=27)
    )
    wire.put(sub := stripe_subscription(items=[addon, plan]))
    happen("customer.subscription.created", sub)
    assert current_entitlement(user).period_end == datetime.fromtimestamp(
        plan["current_period_end"], UTC
    )


def test_B23_paused_collection_keeps_access_and_a_pause_does_not(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    wire.put({**sub, "pause_collection": {"behavior": "void", "resumes_at": None}})
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"
    assert Subscription.objects.get().collection_paused
    wire.put({**sub, "status": "paused", "status_details": {"paused": {"type": "subscription"}}})
    happen("customer.subscription.paused", sub)
    assert plan_of(user) == "free"
    wire.put(sub)
    happen("customer.subscription.resumed", sub)
    assert plan_of(user) == "plus"


@pytest.mark.parametrize("event", ["pending_update_applied", "pending_update_expired"])
def test_B24_B25_a_pending_update_counts_once_it_is_applied(
    happen: Happen, wire: Wire, user: User, customer: Customer, event: str
) -> None:
    sub = stripe_subscription()
    pending = {"expires_at": from_now(days=1), "subscription_items": [{"price": "price_pro"}]}
    wire.put({**sub, "pending_update": pending})
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"
    applied = event == "pending_update_applied"
    wire.put({**sub, "items": {"data": [stripe_item("price_pro" if applied else "price_plus")]}})
    happen(f"customer.subscription.{event}", sub)
    assert plan_of(user) == ("pro" if applied else "plus")
    assert Subscription.objects.get().pending_change is None


def test_B27_a_deleted_subscription_keeps_its_row_and_its_end(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="canceled", ended_at=from_now(days=-1))
    wire.put(sub)
    happen("customer.subscription.deleted", sub)
    row = Subscription.objects.get()
    assert (row.status, row.ended_at) == ("canceled", datetime.fromtimestamp(sub["ended_at"], UTC))
    assert plan_of(user) == "free"


def test_B28_canceled_at_once_with_a_refund(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    wire.put(sub)
    happen("customer.subscription.created", sub)
    wire.put({**sub, "status": "canceled", "ended_at": from_now()})
    # Only the refund's event arrives.
    happen("charge.refunded", {"id": "ch_1", "object": "charge", "customer": "cus_1"})
    assert plan_of(user) == "free"


def test_B29_subscribing_again_is_a_new_subscription_of_the_same_customer(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(old := stripe_subscription(status="canceled"), new := stripe_subscription())
    happen("customer.subscription.deleted", old)
    happen("customer.subscription.created", new)
    assert plan_of(user) == "plus"
    assert Customer.objects.get() == customer
    assert customer.subscriptions.count() == 2


def test_B30_a_full_discount_is_active_and_its_end_is_a_failed_payment(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    free_invoice = stripe_invoice("sub_x", status="paid", amount_due=0, created=from_now(days=-30))
    sub = stripe_subscription(id="sub_x", latest_invoice=free_invoice, discounts=["di_1"])
    wire.put(sub, free_invoice)
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "plus"
    due = stripe_invoice(
        "sub_x", created=from_now(hours=-1), status_transitions={"finalized_at": from_now(hours=-1)}
    )
    wire.put({**sub, "status": "past_due", "discounts": []}, due)
    happen("invoice.payment_failed", due)
    assert current_entitlement(user).grace_ends_at is not None


def test_B31_metadata_written_by_staff_at_stripe_gives_nothing(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="canceled", metadata={"plan": "pro", "override": "pro"})
    wire.put(sub)
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "free"
    assert "override" not in Subscription.objects.get().snapshot["metadata"]


def test_B33_the_reason_of_a_cancellation_is_kept_for_staff(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(
        status="canceled", cancellation_details={"reason": "canceled_by_retention_policy"}
    )
    wire.put(sub)
    happen("customer.subscription.deleted", sub)
    reason = Subscription.objects.get().snapshot["cancellation_reason"]
    assert reason == "canceled_by_retention_policy"
    assert plan_of(user) == "free"


def test_B34_a_plan_in_use_cannot_be_deleted_and_archiving_it_takes_nothing_away(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    from django.db.models import ProtectedError

    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub)
    with pytest.raises(ProtectedError):
        plans.plus.delete()
    plans.plus.archived_at = timezone.now()
    plans.plus.save()
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"


def test_B38_an_unknown_status_keeps_the_last_good_one(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    wire.put(sub)
    happen("customer.subscription.created", sub)
    wire.put({**sub, "status": "sparkling"})
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"
    assert Subscription.objects.get().status == "sparkling"


def test_B38_an_unknown_status_from_the_start_gives_nothing(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription(status="sparkling"))
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "free"


def test_the_old_shape_reads_the_same(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    wire.put(old_shape(sub))
    happen("customer.subscription.created", old_shape(sub), api_version="2024-06-20")
    start = sub["items"]["data"][0]["current_period_start"]
    row = Subscription.objects.get()
    assert row.current_period_start == datetime.fromtimestamp(start, UTC)
    assert plan_of(user) == "plus"


def test_every_change_leaves_an_entry_with_its_cause(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub, id="evt_first")
    wire.put({**sub, "status": "unpaid"})
    happen("customer.subscription.updated", sub, id="evt_second")
    happen("customer.subscription.updated", sub, id="evt_third")
    entries = AuditEntry.objects.filter(action__startswith="subscription.").order_by("pk")
    assert [(entry.action, entry.cause_reference) for entry in entries] == [
        ("subscription.created", "evt_first"),
        ("subscription.changed", "evt_second"),
    ]


def test_a_reading_keeps_no_personal_data(wire: Wire, user: User, customer: Customer) -> None:
    sub = stripe_subscription(description="Alice, 5 Main Street", default_payment_method="pm_1")
    wire.put(sub)
    read_back(sub["id"], cause=CAUSE)
    assert "Main Street" not in str(Subscription.objects.get().snapshot)


def test_no_problem_stays_open_after_an_ordinary_life(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub)
    wire.put({**sub, "status": "canceled"})
    happen("customer.subscription.deleted", sub)
    assert not BillingProblem.objects.exists()

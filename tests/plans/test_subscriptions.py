"""Subscription events: whatever Stripe says now is what the payer has (EDGE-CASES section B)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry, User
from plans.catalogue import map_price
from plans.entitlements import refresh_due
from plans.models import (
    BillingNotice,
    BillingProblem,
    CurrentEntitlement,
    Customer,
    StripeEvent,
    Subscription,
)
from plans.selectors import current_entitlement
from plans.subscriptions import read_back
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory, PriceFactory
from tests.plans.builders import (
    old_shape,
    seconds,
    stripe_invoice,
    stripe_item,
    stripe_price,
    stripe_subscription,
)
from tests.plans.conftest import Catalogue
from tests.plans.shop import process_all
from tests.plans.wire import Wire

Happen = Callable[..., StripeEvent]
CAUSE = Cause.system("test")


@pytest.fixture
def customer(user: User, plans: Catalogue) -> Customer:
    return CustomerFactory.create(user=user, stripe_customer_id="cus_1")


def plan_of(user: User) -> str:
    return current_entitlement(user).plan.code


def from_now(**delta: float) -> int:
    return seconds(timezone.now() + timedelta(**delta))


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


@pytest.fixture
def overdue(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> dict[str, Any]:
    """Active yesterday, past due since two days ago by its invoice."""
    sub = stripe_subscription()
    wire.put(sub)
    happen("customer.subscription.created", sub)
    late = {**sub, "status": "past_due"}
    wire.put(
        late,
        stripe_invoice(
            sub["id"], id="in_1", status_transitions={"finalized_at": from_now(days=-2)}
        ),
    )
    happen("invoice.payment_failed", stripe_invoice(sub["id"], id="in_1"))
    return late


def test_B07_past_due_keeps_the_plan_and_tells_the_payer(
    overdue: dict[str, Any], user: User, mailoutbox: list[Any]
) -> None:
    from plans.notices import send_next_notice

    entitlement = current_entitlement(user)
    assert entitlement.plan.code == "plus"
    assert entitlement.grace_ends_at is not None
    assert timedelta(days=11) < entitlement.grace_ends_at - timezone.now() < timedelta(days=13)
    while send_next_notice():
        pass
    assert len(mailoutbox) == 1


def test_B07_grace_ends_by_the_clock_alone(overdue: dict[str, Any], user: User) -> None:
    ends_at = current_entitlement(user).grace_ends_at
    assert ends_at is not None
    assert refresh_due(at=ends_at - timedelta(seconds=1)) == 0
    assert refresh_due(at=ends_at) == 1
    assert CurrentEntitlement.objects.get(user=user).plan.code == "free"


def test_B08_paying_clears_grace(
    overdue: dict[str, Any], happen: Happen, wire: Wire, user: User
) -> None:
    wire.put(
        {**overdue, "status": "active"}, stripe_invoice(overdue["id"], id="in_1", status="paid")
    )
    happen("invoice.paid", stripe_invoice(overdue["id"], id="in_1", status="paid"))
    entitlement = current_entitlement(user)
    assert (entitlement.plan.code, entitlement.grace_ends_at) == ("plus", None)
    assert Subscription.objects.get().past_due_since is None


@pytest.mark.parametrize("status", ["unpaid", "canceled"])
def test_B09_B10_unpaid_and_canceled_fall_back(
    overdue: dict[str, Any], happen: Happen, wire: Wire, user: User, status: str
) -> None:
    wire.put({**overdue, "status": status})
    happen("customer.subscription.updated", overdue)
    assert plan_of(user) == "free"


def test_B11_a_later_failure_does_not_extend_grace(
    overdue: dict[str, Any], happen: Happen, wire: Wire, user: User
) -> None:
    ends_at = current_entitlement(user).grace_ends_at
    retried = stripe_invoice(
        overdue["id"],
        id="in_1",
        attempt_count=4,
        status_transitions={"finalized_at": from_now(days=-2)},
    )
    retried["status_transitions"] = wire.objects["in_1"]["status_transitions"]
    wire.put(retried, stripe_invoice(overdue["id"], id="in_2", created=from_now(days=1)))
    for _ in range(3):
        happen("invoice.payment_failed", retried)
    assert current_entitlement(user).grace_ends_at == ends_at


def test_B11_a_paid_invoice_in_between_begins_a_new_run(
    overdue: dict[str, Any], happen: Happen, wire: Wire
) -> None:
    day = 86_400
    wire.remove("in_1")
    for number, status in enumerate(["open", "paid", "open", "void", "open"]):
        wire.put(
            stripe_invoice(
                overdue["id"],
                id=f"in_{number}x",
                status=status,
                created=1_790_000_000 + number * day,
                status_transitions={"finalized_at": 1_790_000_000 + number * day},
            )
        )
    happen("customer.subscription.updated", overdue)
    since = Subscription.objects.get().past_due_since
    assert since == datetime.fromtimestamp(1_790_000_000 + 2 * day, UTC)


def test_B11_voiding_the_only_invoice_of_one_never_paid_begins_no_grace(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="past_due", start_date=from_now(days=-28))
    wire.put(sub, stripe_invoice(sub["id"], status="void", billing_reason="subscription_create"))
    happen("invoice.voided", stripe_invoice(sub["id"], status="void"))
    assert plan_of(user) == "free"


def test_B11_an_invoice_over_nothing_does_not_end_the_run_of_failed_payments(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="past_due")
    wire.put(
        sub,
        stripe_invoice(
            sub["id"],
            created=from_now(days=-20),
            status_transitions={"finalized_at": from_now(days=-20)},
        ),
        stripe_invoice(sub["id"], created=from_now(days=-3), status="paid", amount_due=0),
    )
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "free"


def test_B12_action_required_reminds_once_and_changes_nothing(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="incomplete")
    invoice = stripe_invoice(sub["id"])
    wire.put(sub, invoice)
    happen("invoice.payment_action_required", invoice)
    happen("invoice.payment_action_required", invoice)
    assert BillingNotice.objects.get().kind == "action_required"
    assert plan_of(user) == "free"


def test_B12_nobody_is_reminded_of_what_is_paid_already(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    invoice = stripe_invoice(sub["id"], status="paid")
    wire.put(sub, invoice)
    happen("invoice.payment_action_required", {**invoice, "status": "open"})
    assert not BillingNotice.objects.exists()


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


def test_B14_an_unknown_price_keeps_the_last_good_plan_and_is_a_problem(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    wire.put(sub)
    happen("customer.subscription.created", sub)
    wire.put({**sub, "items": {"data": [stripe_item("price_unheard_of")]}})
    event = happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"
    assert (event.state, event.outcome) == ("quarantined", "quarantined:price")


def test_B14_an_unknown_price_from_the_start_gives_nothing(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(price="price_unheard_of")
    wire.put(sub)
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "free"


def test_B14_an_item_that_names_no_price_gives_nothing_though_a_price_is_unpublished(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    PriceFactory.create(plan=plans.pro, interval="year", stripe_price_id=None)
    sub = stripe_subscription(items=[stripe_item({**stripe_price(), "id": ""})])
    wire.put(sub)
    event = happen("customer.subscription.created", sub)
    assert plan_of(user) == "free"
    assert event.outcome == "quarantined:price"


def test_B14_mapping_the_price_gives_everyone_who_pays_it_the_plan(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    sub = stripe_subscription(price="price_unheard_of")
    wire.put(sub, stripe_price("price_unheard_of", unit_amount=4200))
    event = happen("customer.subscription.created", sub)
    price = map_price(stripe_price_id="price_unheard_of", plan=plans.pro, cause=CAUSE)
    assert plan_of(user) == "pro"
    assert (price.unit_amount, price.archived_at is None) == (4200, False)
    process_all()
    event.refresh_from_db()
    assert event.state == "processed"


def test_B14_mapping_the_price_also_settles_events_that_name_no_customer(
    happen: Happen, wire: Wire, customer: Customer, plans: Catalogue
) -> None:
    sub = stripe_subscription(price="price_odd")
    invoice = stripe_invoice(sub["id"], status="paid")
    wire.put(sub, invoice, sub["items"]["data"][0]["price"])
    paid = happen("invoice_payment.paid", {"id": "inpay_1", "invoice": invoice["id"]})
    assert (paid.stripe_customer_id, paid.outcome) == ("", "quarantined:price")
    map_price(stripe_price_id="price_odd", plan=plans.pro, cause=CAUSE)
    process_all()
    paid.refresh_from_db()
    assert paid.state == "processed"


def test_B15_the_price_id_goes_before_the_lookup_key(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    plans.pro_price.lookup_key = "the_key"
    plans.pro_price.save()
    both = stripe_price("price_plus", lookup_key="the_key")
    sub = stripe_subscription(items=[stripe_item(both)])
    wire.put(sub)
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "plus"
    moved = stripe_price("price_new_at_stripe", lookup_key="the_key")
    wire.put({**sub, "items": {"data": [stripe_item(moved)]}})
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "pro"


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


@pytest.mark.parametrize("event", ["invoice.overdue", "invoice.marked_uncollectible"])
def test_B32_invoices_by_mail_are_overdue_since_their_due_date(
    happen: Happen, wire: Wire, user: User, customer: Customer, event: str
) -> None:
    sub = stripe_subscription(status="past_due", collection_method="send_invoice")
    status = "uncollectible" if event.endswith("uncollectible") else "open"
    invoice = stripe_invoice(
        sub["id"],
        collection_method="send_invoice",
        status=status,
        due_date=from_now(days=-1),
        status_transitions={"finalized_at": from_now(days=-31)},
    )
    wire.put(sub, invoice)
    happen(event, invoice)
    since = Subscription.objects.get().past_due_since
    assert since == datetime.fromtimestamp(invoice["due_date"], UTC)
    assert plan_of(user) == "plus"


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

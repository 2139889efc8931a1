"""Payments that fail: grace, its end, and who hears of it (EDGE-CASES section B)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from plans import notices
from plans.catalogue import announce_plan_edit
from plans.entitlements import refresh_due
from plans.models import BillingNotice, CurrentEntitlement, Customer, Subscription
from plans.selectors import current_entitlement
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory
from tests.plans.builders import from_now, stripe_invoice, stripe_subscription
from tests.plans.conftest import Catalogue, Happen
from tests.plans.shop import plan_of
from tests.plans.wire import Wire


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
    entitlement = current_entitlement(user)
    assert entitlement.plan.code == "plus"
    assert entitlement.grace_ends_at is not None
    assert timedelta(days=11) < entitlement.grace_ends_at - timezone.now() < timedelta(days=13)
    while notices.send_next_notice():
        pass
    assert len(mailoutbox) == 1


def test_B07_an_address_that_takes_no_mail_keeps_nobody_elses_back(
    overdue: dict[str, Any], user: User, stranger: User, mailoutbox: list[Any]
) -> None:
    User.objects.filter(pk=user.pk).update(email="nobody at\nall")
    other = CustomerFactory.create(user=stranger, stripe_customer_id="cus_2")
    notices.note(customer=other, kind="payment_failed", subject="in_2")
    for _ in range(2):  # two turns of the worker
        while notices.send_next_notice():
            pass
    assert [message.to for message in mailoutbox] == [[stranger.email]]


def test_B07_grace_ends_by_the_clock_alone(overdue: dict[str, Any], user: User) -> None:
    ends_at = current_entitlement(user).grace_ends_at
    assert ends_at is not None
    assert refresh_due(at=ends_at - timedelta(seconds=1)) == 0
    assert refresh_due(at=ends_at) == 1
    assert CurrentEntitlement.objects.get(user=user).plan.code == "free"


@pytest.mark.parametrize("change", [{}, {"price": None}, {"status": "a_new_word"}])
def test_B07_other_grace_days_reach_whoever_is_overdue_on_the_plan(
    overdue: dict[str, Any], user: User, plans: Catalogue, change: dict[str, Any]
) -> None:
    """Also who keeps it while Stripe names a price or a status that is unknown here."""
    Subscription.objects.update(**change)
    plans.plus.grace_days = 1
    plans.plus.save()
    announce_plan_edit(plan=plans.plus, changed=["grace_days"], cause=Cause.system("test"))
    refresh_due(at=timezone.now() + timedelta(seconds=1))
    assert plan_of(user) == "free"


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

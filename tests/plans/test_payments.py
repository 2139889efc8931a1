"""Refunds, disputes and invoices as far as they touch access (EDGE-CASES section V).

Here: V02, V03, V04, V08, V09 (access), V10 (access), V12, V13, V16. Revenue and margin, that is
V01, V05, V06, V07, V09, V10, V11, V14, V15 and V17, belong to the revenue ledger.
"""

from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from accounts.services import delete_account
from plans import stripe_reading
from plans.models import BillingProblem, Customer, Plan, StripeEvent
from plans.problems import problems
from plans.selectors import current_entitlement
from tesslate.lib.cause import Cause
from tests.factories import (
    CustomerFactory,
    MembershipFactory,
    OrganizationFactory,
    SubscriptionFactory,
)
from tests.plans.builders import stripe_invoice, stripe_subscription
from tests.plans.conftest import Happen
from tests.plans.wire import Wire


@pytest.fixture
def charge(wire: Wire) -> dict[str, Any]:
    found = {"id": "ch_1", "object": "charge", "customer": "cus_1"}
    wire.put(found)
    return found


def dispute(status: str) -> dict[str, Any]:
    return {"id": "dp_1", "object": "dispute", "charge": "ch_1", "status": status}


def test_V02_an_invoice_without_a_subscription_gives_nothing(
    happen: Happen, wire: Wire, customer: Customer
) -> None:
    assert happen("invoice.paid", stripe_invoice()).outcome == "ignored:no_subscription"


@pytest.mark.parametrize("shape", ["new", "old", "expanded"])
def test_V03_the_subscription_of_an_invoice_is_found_in_every_shape(shape: str) -> None:
    invoice = {
        "new": stripe_invoice("sub_1"),
        "old": {"id": "in_1", "subscription": "sub_1"},
        "expanded": stripe_invoice() | {"subscription": {"id": "sub_1"}, "parent": None},
    }[shape]
    assert stripe_reading.subscription_id(invoice) == "sub_1"


@pytest.mark.parametrize(
    "line",
    [
        {"pricing": {"price_details": {"price": "price_1"}}},
        {"pricing": {"price_details": {"price": {"id": "price_1"}}}},
        {"price": {"id": "price_1"}},
        {"plan": {"id": "price_1"}},
    ],
)
def test_V04_the_price_of_a_line_is_found_in_every_shape(line: dict[str, Any]) -> None:
    assert stripe_reading.price_id(line) == "price_1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"proration": True}, True),
        ({"parent": {"subscription_item_details": {"proration": True}}}, True),
        ({"parent": {"invoice_item_details": {"proration": True}}}, True),
        ({"parent": {"subscription_item_details": {"proration": False}}}, False),
        ({"parent": None}, False),
    ],
)
def test_prorations_are_told_in_every_shape(line: dict[str, Any], expected: bool) -> None:
    assert stripe_reading.is_proration(line) is expected


@pytest.mark.parametrize(
    "discount",
    [
        {"source": {"coupon": "c_1"}},
        {"source": {"coupon": {"id": "c_1"}}},
        {"coupon": {"id": "c_1"}},
    ],
)
def test_the_coupon_of_a_discount_is_found_in_every_shape(discount: dict[str, Any]) -> None:
    assert stripe_reading.coupon(discount) == "c_1"


@pytest.mark.parametrize("junk", [{}, {"parent": 5}, {"parent": {"subscription_details": []}}])
def test_reading_never_fails_on_odd_objects(junk: dict[str, Any]) -> None:
    assert stripe_reading.subscription_id(junk) == ""
    assert stripe_reading.price_id(junk) == ""
    assert stripe_reading.period(junk, None) is None
    assert stripe_reading.items({"items": 7}) == []
    assert stripe_reading.without_personal_data(junk)["items"] == []


def test_V08_an_invoice_that_cannot_be_finalized_is_a_problem_until_it_is(
    happen: Happen, wire: Wire, customer: Customer
) -> None:
    invoice = stripe_invoice(id="in_1", status="draft", last_finalization_error={"code": "tax"})
    wire.put(invoice)
    happen("invoice.finalization_failed", invoice)
    assert BillingProblem.objects.get().kind == "finalization_failed"
    wire.put({**invoice, "status": "open"})
    happen("invoice.finalized", invoice)
    assert BillingProblem.objects.get().resolved_at is not None


def test_V08_a_failed_finalization_told_of_too_late_is_no_problem(
    happen: Happen, wire: Wire, customer: Customer
) -> None:
    wire.put(stripe_invoice(id="in_1", status="paid"))
    happen("invoice.finalization_failed", stripe_invoice(id="in_1", status="draft"))
    assert not BillingProblem.objects.exists()


def test_an_invoice_given_up_is_a_problem_until_it_is_paid_after_all(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(status="unpaid")
    invoice = stripe_invoice(sub["id"], id="in_1", status="uncollectible")
    wire.put(sub, invoice)
    happen("invoice.marked_uncollectible", invoice)
    assert BillingProblem.objects.get().kind == "uncollectible"
    wire.put({**sub, "status": "active"}, {**invoice, "status": "paid"})
    happen("invoice.paid", invoice)
    assert BillingProblem.objects.get().resolved_at is not None
    assert current_entitlement(user).plan.code == "plus"


@pytest.mark.parametrize(
    "kind", ["charge.refunded", "refund.created", "refund.updated", "refund.failed"]
)
def test_V09_V10_a_refund_alone_takes_no_access(
    happen: Happen, wire: Wire, user: User, customer: Customer, charge: dict[str, Any], kind: str
) -> None:
    wire.put(sub := stripe_subscription())
    happen("customer.subscription.created", sub)
    about = charge if kind == "charge.refunded" else {"id": "re_1", "charge": "ch_1"}
    version = current_entitlement(user).version
    assert happen(kind, about).outcome == "refund.noted"
    assert current_entitlement(user).plan.code == "plus"
    assert current_entitlement(user).version == version


def test_V09_a_refund_that_failed_is_a_problem_for_staff(
    happen: Happen, wire: Wire, customer: Customer, charge: dict[str, Any]
) -> None:
    refund = {"id": "re_1", "object": "refund", "charge": "ch_1", "status": "pending"}
    wire.put(refund)
    happen("refund.updated", refund)
    assert not BillingProblem.objects.exists()
    wire.put({**refund, "status": "failed", "failure_reason": "lost_or_stolen_card"})
    happen("refund.failed", refund)
    problem = BillingProblem.objects.get()
    assert (problem.kind, problem.customer) == ("refund_failed", customer)
    assert "lost_or_stolen_card" in problem.summary


@pytest.mark.parametrize(
    "status", ["needs_response", "under_review", "lost", "appeal_under_review"]
)
def test_V12_an_open_or_lost_dispute_suspends(
    happen: Happen, wire: Wire, user: User, customer: Customer, charge: dict[str, Any], status: str
) -> None:
    wire.put(dispute(status))
    happen("charge.dispute.created", dispute("needs_response"))
    user.refresh_from_db()
    assert user.suspended_at is not None
    assert BillingProblem.objects.get().kind == "dispute"


def test_V12_a_won_dispute_restores_access(
    happen: Happen, wire: Wire, user: User, customer: Customer, charge: dict[str, Any]
) -> None:
    wire.put(dispute("needs_response"))
    happen("charge.dispute.created", dispute("needs_response"))
    wire.put(dispute("won"))
    happen("charge.dispute.closed", dispute("won"))
    user.refresh_from_db()
    assert user.suspended_at is None
    assert BillingProblem.objects.get().resolved_at is not None


def test_V12_winning_does_not_lift_a_suspension_for_another_reason(
    happen: Happen, wire: Wire, user: User, customer: Customer, charge: dict[str, Any]
) -> None:
    User.objects.filter(pk=user.pk).update(suspended_at=timezone.now(), suspension_reason="Abuse")
    wire.put(dispute("won"))
    happen("charge.dispute.closed", dispute("won"))
    user.refresh_from_db()
    assert user.suspended_at is not None


def test_V12_winning_one_dispute_gives_nothing_back_while_another_stands(
    happen: Happen, wire: Wire, user: User, customer: Customer, charge: dict[str, Any]
) -> None:
    def turn(number: int, status: str) -> User:
        now = dispute(status) | {"id": f"dp_{number}"}
        wire.put(now)
        happen("charge.dispute.updated", now)
        user.refresh_from_db()
        return user

    turn(1, "needs_response")
    turn(2, "lost")
    assert turn(1, "won").suspended_at is not None
    assert user.suspension_reason == "Payment dispute dp_2"
    # Stripe may yet decide for us, on appeal.
    assert turn(2, "won").suspended_at is None


@pytest.mark.parametrize(
    "status", ["warning_needs_response", "warning_under_review", "warning_closed", "prevented"]
)
def test_V12_an_inquiry_blocks_nobody(
    happen: Happen, wire: Wire, user: User, customer: Customer, charge: dict[str, Any], status: str
) -> None:
    wire.put(dispute(status))
    happen("charge.dispute.created", dispute(status))
    user.refresh_from_db()
    assert user.suspended_at is None


def test_V12_with_the_notify_policy_only_staff_hear_of_it(
    happen: Happen,
    wire: Wire,
    user: User,
    customer: Customer,
    charge: dict[str, Any],
    settings: Any,
) -> None:
    settings.STRIPE_DISPUTE_POLICY = "notify"
    wire.put(dispute("lost"))
    happen("charge.dispute.closed", dispute("lost"))
    user.refresh_from_db()
    assert user.suspended_at is None
    assert BillingProblem.objects.get().kind == "dispute"


def test_V13_a_fraud_warning_is_for_review(
    happen: Happen, wire: Wire, user: User, customer: Customer, charge: dict[str, Any]
) -> None:
    happen("radar.early_fraud_warning.created", {"id": "issfr_1", "charge": "ch_1"})
    problem = BillingProblem.objects.get()
    assert (problem.kind, problem.customer) == ("fraud_warning", customer)


def test_V16_an_upcoming_invoice_without_an_id_is_no_trouble(happen: Happen, db: None) -> None:
    event = happen("invoice.upcoming", {"object": "invoice", "customer": "cus_1"})
    assert (event.state, event.object_id) == ("ignored", "")


def test_the_problem_list_shows_what_our_own_rows_tell(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    wire.put(
        one := stripe_subscription(price="price_odd"),
        two := stripe_subscription(status="sparkling"),
    )
    happen("customer.subscription.created", one)
    happen("customer.subscription.created", two)
    StripeEvent.objects.filter(object_id=two["id"]).update(state="dead")
    kinds = {problem.kind for problem in problems()}
    assert kinds == {"unmapped_price", "unknown_status", "two_subscriptions", "dead_letters"}


def test_staff_hear_of_what_runs_with_nobody_left_to_cancel_it(
    user: User, stranger: User, free_plan: Plan
) -> None:
    alone, shared = OrganizationFactory.create_batch(2)
    for organization, person in ((alone, user), (shared, user), (shared, stranger)):
        MembershipFactory.create(organization=organization, user=person, role="owner")
    own, left, _ = (
        SubscriptionFactory.create(customer=CustomerFactory.create(**payer))
        for payer in (
            {"user": user},
            {"user": None, "organization": alone},
            {"user": None, "organization": shared},
        )
    )

    delete_account(user_id=user.pk, cause=Cause.system("test"))

    told = {problem.subject: problem.summary for problem in problems()}
    assert told.keys() == {own.stripe_subscription_id, left.stripe_subscription_id}
    assert "no member left" in told[left.stripe_subscription_id]

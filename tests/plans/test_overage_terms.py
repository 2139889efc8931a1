"""What becomes of paid usage beyond a plan when plan, subscription or cap change in mid-period."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from plans.catalogue import announce_plan_edit
from plans.entitlements import refresh_due, refresh_entitlements
from plans.models import CurrentEntitlement, Customer, Price
from plans.overage import set_cap
from tests.factories import MembershipFactory
from tests.plans.stage import CAUSE, Stage

pytestmark = pytest.mark.django_db


def edit_plan(stage: Stage, **changes: int) -> None:
    for name, value in changes.items():
        setattr(stage.plan, name, value)
    stage.plan.save()
    announce_plan_edit(plan=stage.plan, changed=list(changes), cause=CAUSE)
    refresh_due(at=stage.now + timedelta(minutes=1))


@pytest.mark.parametrize("markup", [0, 50])
def test_another_markup_holds_from_the_next_period_on(stage: Stage, markup: int) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    edit_plan(stage, overage_markup_percent=markup)
    assert stage.entitlement.overage_cents == 1000
    stage.use("100")
    stage.send()
    assert stage.meter_total() == 1200
    stage.engine.advance(days=32)
    stage.read()
    assert stage.entitlement.overage_cents == 120_000 // (100 + markup)


def test_overage_that_a_plan_stops_to_allow_is_taken_from_its_holders(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    edit_plan(stage, overage_allowed=False)
    assert stage.entitlement.overage_cents == 0


@pytest.mark.parametrize(("budget_cents", "charged"), [(1500, 0), (500, 480)])
def test_what_a_plan_includes_by_now_is_not_charged_and_what_it_included_neither(
    stage: Stage, budget_cents: int, charged: int
) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    assert stage.plan.budget_cents == 1000
    edit_plan(stage, budget_cents=budget_cents)
    stage.use("14")
    stage.send()
    assert stage.meter_total() == charged


def test_after_a_cap_was_taken_back_nothing_more_is_charged(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("11")
    set_cap(user=stage.user, cap_cents=0)
    stage.use("5")
    stage.send()
    assert stage.meter_total() == 120


def test_a_cap_does_not_outlive_its_subscription(stage: Stage, api: Any) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.engine.request("DELETE", f"/v1/subscriptions/{stage.sub}", {})
    stage.read()
    stage.buy(stage.customer)
    assert stage.entitlement.overage_cents == 0
    api.force_authenticate(stage.user)
    assert api.get("/api/billing/overage").json()["cap_cents"] == 0

    set_cap(user=stage.user, cap_cents=1200)
    assert stage.entitlement.overage_cents == 1000
    assert stage.billed_on(stage.sub)


def test_a_cap_can_be_taken_back_by_who_has_nothing_left(
    stage: Stage, api: Any, stranger: User
) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.engine.request("DELETE", f"/v1/subscriptions/{stage.sub}", {})
    stage.read()
    for person in (stage.user, stranger):
        api.force_authenticate(person)
        answer = api.put("/api/billing/overage", {"cap_cents": 0}, format="json")
        assert (answer.status_code, answer.json()["cap_cents"]) == (200, 0)
    assert Customer.objects.get().overage_cap_cents == 0


def test_what_stripe_would_not_bill_any_more_is_not_allowed(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    items = stage.engine.object(stage.sub)["items"]["data"]
    stage.engine.request("DELETE", f"/v1/subscription_items/{items[1]['id']}", {})
    stage.read()
    assert stage.entitlement.overage_cents == 0


@pytest.mark.parametrize("change", [{"interval": "year"}, {"currency": "eur"}])
def test_a_subscription_that_cannot_be_billed_for_it_has_no_allowance(
    stage: Stage, change: dict[str, str]
) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    Price.objects.filter(pk=stage.price.pk).update(**change)
    refresh_entitlements([stage.user.pk], cause=CAUSE)
    assert stage.entitlement.overage_cents == 0


def test_of_two_subscriptions_only_one_bills_what_the_meter_counts(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    first = stage.sub
    customer = stage.customer.stripe_customer_id or ""
    stage.sub = stage.engine.subscribe(customer, stage.price.stripe_price_id or "")["id"]
    stage.read()
    set_cap(user=stage.user, cap_cents=2400)
    assert [stage.billed_on(sub) for sub in (first, stage.sub)] == [True, False]
    assert stage.entitlement.overage_cents == 2000


def test_the_seats_of_an_organization_cost_no_queries_of_their_own(stage: Stage) -> None:
    owner = MembershipFactory.create(role="owner")
    stage.buy(Customer.objects.create(organization=owner.organization), quantity=9)
    set_cap(user=owner.user, cap_cents=9600, organization_id=owner.organization_id)
    users = [owner.user_id]
    counts = []
    for _ in range(2):
        members = MembershipFactory.create_batch(3, organization=owner.organization)
        users += [member.user_id for member in members]
        refresh_entitlements(users, cause=CAUSE)
        with CaptureQueriesContext(connection) as captured:
            refresh_entitlements(users, cause=CAUSE)
        counts.append(len(captured))
    assert counts[0] == counts[1]
    assert CurrentEntitlement.objects.get(user_id=users[-1]).overage_cents == 9600 // 9 * 100 // 120

"""Paid usage beyond a plan: allowed by the plan, capped by the customer, billed exactly once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F, Sum
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from llmkeys.desired import budget_of
from llmkeys.usage_books import credit_usage
from plans import revenue
from plans.errors import OverageNotOffered
from plans.models import (
    BillingProblem,
    CurrentEntitlement,
    Customer,
    OverageReport,
    OverageWindow,
    RevenueItem,
    Subscription,
)
from plans.overage import record_use, set_cap, units_due
from plans.overage_audit import audit_overage
from plans.overage_reports import compare
from tests.factories import MembershipFactory
from tests.plans.stage import CAUSE, Stage

pytestmark = pytest.mark.django_db


def test_without_a_cap_nothing_is_allowed_beyond_the_plan(stage: Stage) -> None:
    assert stage.entitlement.overage_cents == 0
    assert budget_of(stage.entitlement) == Decimal(10)
    stage.use("11")
    assert not OverageWindow.objects.exists()


def test_a_cap_raises_the_keys_budget_by_what_it_pays_for(stage: Stage) -> None:
    """Twelve dollars at a markup of 20 % pay for ten at the gateway."""
    set_cap(user=stage.user, cap_cents=1200)
    assert stage.entitlement.overage_cents == 1000
    assert budget_of(stage.entitlement) == Decimal(20)
    act = AuditEntry.objects.get(action="overage.cap_set")
    assert (act.user, act.after) == (stage.user, {"cap_cents": 1200})
    (meter,) = stage.engine.objects("billing.meter")
    items = stage.engine.object(stage.sub)["items"]["data"]
    assert [item["price"]["recurring"]["meter"] for item in items] == [None, meter["id"]]
    set_cap(user=stage.user, cap_cents=0)
    assert budget_of(stage.entitlement) == Decimal(10)


def test_setting_a_cap_again_makes_nothing_twice_at_stripe(stage: Stage) -> None:
    for cents in (1200, 2400, 0, 600):
        set_cap(user=stage.user, cap_cents=cents)
    assert len(stage.engine.objects("billing.meter")) == 1
    assert len(stage.engine.object(stage.sub)["items"]["data"]) == 2
    stage.read()
    assert Subscription.objects.get().price == stage.price


@pytest.mark.parametrize(
    "change",
    [
        {"overage_allowed": False},
        {"interval": "year"},
        {"currency": "eur"},
    ],
)
def test_what_cannot_be_billed_is_not_offered(stage: Stage, change: dict[str, Any]) -> None:
    row = stage.plan if "overage_allowed" in change else stage.price
    type(row).objects.filter(pk=row.pk).update(**change)
    with pytest.raises(OverageNotOffered):
        set_cap(user=stage.user, cap_cents=1200)
    assert stage.entitlement.overage_cents == 0
    assert stage.engine.objects("billing.meter") == []


def test_while_a_payment_is_overdue_there_is_no_overage(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.engine.fail_payments(stage.customer.stripe_customer_id or "", times=9)
    stage.engine.advance(days=32)
    stage.read()
    assert stage.entitlement.grace_ends_at is not None
    assert stage.entitlement.overage_cents == 0


def test_an_organizations_cap_is_divided_among_its_seats(stage: Stage) -> None:
    owner = MembershipFactory.create(role="owner")
    members = MembershipFactory.create_batch(2, organization=owner.organization)
    customer = Customer.objects.create(organization=owner.organization)
    stage.buy(customer, quantity=4)
    set_cap(user=owner.user, cap_cents=4800, organization_id=owner.organization_id)
    rows = CurrentEntitlement.objects.filter(user__in=[m.user for m in [owner, *members]])
    assert [row.overage_cents for row in rows] == [1000, 1000, 1000]


def test_use_beyond_the_plan_is_reported_in_cents_with_the_markup(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("9.99")
    assert not OverageReport.objects.exists()
    stage.use("1.51")
    stage.send()
    report = OverageReport.objects.get()
    assert (report.state, report.units) == ("sent", 180)
    assert stage.meter_total() == 180
    stage.use("0.505")
    stage.send()
    assert stage.meter_total() == 240


def test_the_charge_never_exceeds_the_cap(stage: Stage) -> None:
    """The gateway lets the request that crosses the line finish; the customer does not pay it."""
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("21.75")
    stage.send()
    assert stage.meter_total() == 1200


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_lost_report_is_sent_again_and_counts_once(stage: Stage, fault: str) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("15")
    stage.fault = fault
    stage.send()
    report = OverageReport.objects.get()
    assert (report.state, report.attempts) == ("pending", 1)
    stage.fault = ""
    stage.send(stage.now + timedelta(hours=1))
    assert OverageReport.objects.get().state == "sent"
    assert stage.meter_total() == 600


def test_after_stripe_forgot_the_identifier_its_sum_is_asked_first(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("15")
    stage.fault = "after"
    stage.send()
    stage.fault = ""
    (meter,) = stage.engine.objects("billing.meter")
    stage.engine.world.get("billing.meter", meter["id"])["_seen"].clear()
    posted = stage.posted
    stage.send(stage.now + timedelta(days=2))
    assert OverageReport.objects.get().state == "sent"
    assert stage.posted == posted
    assert stage.meter_total() == 600


def test_measuring_again_and_again_reports_each_cent_once(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("13")
    window = OverageWindow.objects.get()
    for _ in range(3):
        stage.measure()
        record_use(window.pk, Decimal(13), at=stage.now)
    reports = OverageReport.objects.all()
    assert reports.aggregate(units=Sum("units"))["units"] == 360
    assert reports.count() == 1


def test_U16_a_credit_makes_the_next_reports_smaller(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=2400)
    stage.use("13")
    credit_usage(
        user=stage.user,
        amount=Decimal(2),
        reason="outage",
        cause=CAUSE,
        at=stage.now + timedelta(seconds=2),
        plan_code="pro",
    )
    stage.measure()
    window = OverageWindow.objects.get()
    assert (units_due(window), window.units_reported) == (120, 360)
    stage.use("3")
    stage.send()
    assert stage.meter_total() == 480


def test_a_refused_report_is_shown_and_can_be_sent_again(stage: Stage, staff_client: Any) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("13")
    real = stage.customer.stripe_customer_id
    Customer.objects.filter(pk=stage.customer.pk).update(stripe_customer_id="cus_gone")
    stage.send()
    report = OverageReport.objects.get()
    assert report.state == "refused"
    Customer.objects.filter(pk=stage.customer.pk).update(stripe_customer_id=real)
    action = {"action": "send_again", "_selected_action": [report.pk]}
    staff_client.post(reverse("admin:plans_overagereport_changelist"), action)
    stage.send(timezone.now() + timedelta(minutes=1))
    report.refresh_from_db()
    assert report.state == "sent"


def test_our_reports_and_stripes_meter_are_compared(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("13")
    stage.send()
    found = compare(OverageWindow.objects.get(), at=stage.now)
    assert (found.at_stripe, found.sent, found.difference) == (360, 360, 0)
    stage.engine.request(
        "POST",
        "/v1/billing/meter_events",
        {
            "event_name": "tesslate_overage_cents",
            "payload": {"stripe_customer_id": stage.customer.stripe_customer_id, "value": "5"},
        },
    )
    assert compare(OverageWindow.objects.get(), at=stage.now).difference == 5


def test_a_difference_to_the_meter_is_a_problem_until_it_is_gone(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("13")
    stage.send()
    assert audit_overage(at=stage.now) == 0

    OverageReport.objects.update(units=F("units") - 5)
    assert audit_overage(at=stage.now) == 1
    problem = BillingProblem.objects.get(kind="overage_differs", resolved_at=None)
    assert problem.summary == "Stripe's meter counts 360 cents, we reported 355."

    OverageReport.objects.update(units=F("units") + 5)
    assert audit_overage(at=stage.now) == 0
    problem.refresh_from_db()
    assert problem.resolved_at is not None


def test_overage_is_on_the_next_invoice_and_in_the_plans_revenue(stage: Stage) -> None:
    set_cap(user=stage.user, cap_cents=1200)
    stage.use("13")
    stage.send()
    stage.engine.advance(days=32)
    for invoice in stage.engine.objects("invoice"):
        revenue.note_invoices([invoice["id"]])
    while revenue.read_next():
        pass
    amounts = RevenueItem.objects.filter(plan=stage.plan).values_list("net", flat=True)
    assert sorted(amounts) == [360, 2000, 2000] or sorted(amounts) == [0, 360, 2000, 2000]


# Over HTTP


def test_customers_set_and_see_their_cap(stage: Stage, api: Any) -> None:
    api.force_authenticate(stage.user)
    before = api.get("/api/billing/overage").json()
    assert before == {"offered": True, "cap_cents": 0, "windows": []}
    after = api.put("/api/billing/overage", {"cap_cents": 1200}, format="json")
    assert after.json()["cap_cents"] == 1200
    stage.use("13")
    (window,) = api.get("/api/billing/overage").json()["windows"]
    assert (window["included_cents"], window["charged_cents"]) == (1000, 360)


@pytest.mark.parametrize("cap", [-1, 10_000_001, "x", None])
def test_nonsense_is_no_cap(stage: Stage, api: Any, cap: Any) -> None:
    api.force_authenticate(stage.user)
    answer = api.put("/api/billing/overage", {"cap_cents": cap}, format="json")
    assert answer.status_code == 400
    assert Customer.objects.get().overage_cap_cents == 0


def test_only_owners_set_an_organizations_cap(stage: Stage, api: Any) -> None:
    seat = MembershipFactory.create(user=stage.user)
    given = {"cap_cents": 1200, "organization": seat.organization_id}
    api.force_authenticate(stage.user)
    assert api.put("/api/billing/overage", given, format="json").status_code == 403
    api.force_authenticate(MembershipFactory.create().user)
    assert api.put("/api/billing/overage", given, format="json").status_code == 404


def test_who_pays_nothing_is_not_offered_any(stage: Stage, api: Any, stranger: User) -> None:
    api.force_authenticate(stranger)
    assert api.get("/api/billing/overage").json()["offered"] is False
    answer = api.put("/api/billing/overage", {"cap_cents": 100}, format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "overage_not_offered")

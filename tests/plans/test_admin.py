"""Staff pages: lists and forms open, actions call services, mirrored rows stay as they are."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from plans.entitlements import refresh_due
from plans.models import BillingProblem, Plan, PlanGrant, StripeEvent
from plans.selectors import current_entitlement
from plans.tasks import reconcile_now
from tests.factories import GatewayModelFactory, SubscriptionFactory
from tests.plans.builders import stripe_event, stripe_subscription
from tests.plans.conftest import Catalogue

pytestmark = pytest.mark.django_db

LISTS = [
    "plan", "gatewaymodel", "price", "customer", "subscription", "plangrant", "checkout",
    "billingproblem", "billingnotice", "currententitlement", "stripeevent", "eventbackfill",
    "billingreconciliation",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _without_second_factor(settings: Any) -> None:
    settings.STAFF_TWO_FACTOR_REQUIRED = False


@pytest.fixture
def event(deliver: Any) -> StripeEvent:
    about = stripe_subscription() | {"customer_email": "alice@example.com"}
    deliver(stripe_event("customer.subscription.updated", about))
    return StripeEvent.objects.get()


def address(model: str, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:plans_{model}_{page}", args=args)


@pytest.mark.parametrize("model", LISTS)
def test_every_list_opens(staff_client: Client, plans: Catalogue, model: str) -> None:
    SubscriptionFactory.create(price=plans.plus_price)
    assert staff_client.get(address(model)).status_code == 200


def test_an_entitlement_says_why(staff_client: Client, plans: Catalogue, user: User) -> None:
    current_entitlement(user)
    page = staff_client.get(address("currententitlement", "change", user.pk))
    assert "Everyone has at least the Free plan." in page.content.decode()


def test_I29_an_events_personal_data_is_for_those_permitted(
    client: Client, staff_client: Client, event: StripeEvent
) -> None:
    page = staff_client.get(address("stripeevent", "change", event.pk)).content.decode()
    assert "alice@example.com" in page
    helper = User.objects.create_user("helper@example.com", "password", is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="view_stripeevent"))
    client.force_login(helper)
    page = client.get(address("stripeevent", "change", event.pk)).content.decode()
    assert "alice@example.com" not in page
    assert event.event_id in page


def test_a_failed_event_can_be_replayed(staff_client: Client, event: StripeEvent) -> None:
    StripeEvent.objects.update(state="dead")
    action = {"action": "replay_selected", "_selected_action": [event.pk]}
    staff_client.post(address("stripeevent"), action)
    event.refresh_from_db()
    assert event.state == "pending"


def test_who_may_only_look_cannot_replay(client: Client, event: StripeEvent) -> None:
    StripeEvent.objects.update(state="dead")
    helper = User.objects.create_user("helper@example.com", "password", is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="view_stripeevent"))
    client.force_login(helper)
    action = {"action": "replay_selected", "_selected_action": [event.pk]}
    client.post(address("stripeevent"), action)
    event.refresh_from_db()
    assert event.state == "dead"


def test_a_grant_is_given_through_the_service_and_revoked(
    staff_client: Client, plans: Catalogue, user: User
) -> None:
    ends = timezone.now() + timedelta(days=3)
    form = {
        "user": user.pk,
        "plan": plans.pro.pk,
        "ends_at_0": f"{ends:%Y-%m-%d}",
        "ends_at_1": f"{ends:%H:%M:%S}",
        "reason": "Thanks",
    }
    staff_client.post(address("plangrant", "add"), form)
    grant = PlanGrant.objects.get()
    assert grant.granted_by is not None
    assert current_entitlement(user).plan == plans.pro
    action = {"action": "revoke", "_selected_action": [grant.pk], "confirmed": "1"}
    staff_client.post(address("plangrant"), action)
    assert current_entitlement(user).plan == plans.pro
    staff_client.post(address("plangrant"), action | {"reason": "Given by mistake"})
    assert current_entitlement(user).plan == plans.free


def test_mirrored_rows_cannot_be_edited_or_deleted(staff_client: Client, plans: Catalogue) -> None:
    row = SubscriptionFactory.create(price=plans.plus_price)
    staff_client.post(address("subscription", "change", row.pk), {"status": "canceled"})
    assert staff_client.post(address("subscription", "delete", row.pk)).status_code == 403
    row.refresh_from_db()
    assert row.status == "active"


def plan_form(client: Client, plan: Plan, **changes: Any) -> dict[str, Any]:
    """The plan's page as a browser sends it back, but for the changes."""
    page = client.get(address("plan", "change", plan.pk))
    form = page.context["adminform"].form
    data = {
        name: form[name].value() if form[name].value() is not None else "" for name in form.fields
    }
    data |= {"prices-TOTAL_FORMS": 0, "prices-INITIAL_FORMS": 0} | changes
    return {name: value for name, value in data.items() if value is not False}


def test_another_plan_becomes_the_default_in_one_go(
    staff_client: Client, plans: Catalogue, user: User
) -> None:
    current_entitlement(user)
    for plan in (plans.free, plans.plus):
        plan.gateway_models.add(GatewayModelFactory.create())
    alone = plan_form(staff_client, plans.free, is_default=False)
    answer = staff_client.post(address("plan", "change", plans.free.pk), alone)
    assert "make another one default first" in answer.content.decode()
    data = plan_form(staff_client, plans.plus, is_default=True)
    assert staff_client.post(address("plan", "change", plans.plus.pk), data).status_code == 302
    assert Plan.objects.get(is_default=True) == plans.plus
    edits = AuditEntry.objects.filter(action="plan.edited", after={"changed": ["is_default"]})
    assert {entry.target_id for entry in edits} == {str(plans.free.pk), str(plans.plus.pk)}
    refresh_due()
    assert current_entitlement(user).plan == plans.plus


def test_a_stale_plan_form_is_refused(staff_client: Client, plans: Catalogue) -> None:
    data = plan_form(staff_client, plans.plus, gateway_models=[], rpm=77)
    Plan.objects.filter(pk=plans.plus.pk).update(version=9)
    answer = staff_client.post(address("plan", "change", plans.plus.pk), data)
    assert answer.status_code == 200
    assert "Somebody changed this plan meanwhile" in answer.content.decode()
    plans.plus.refresh_from_db()
    assert plans.plus.rpm == 60


def test_a_problem_can_be_marked_as_resolved(staff_client: Client) -> None:
    problem = BillingProblem.objects.create(kind="dispute", subject="dp_1", summary="Open")
    action = {"action": "resolve", "_selected_action": [problem.pk]}
    staff_client.post(address("billingproblem"), action)
    problem.refresh_from_db()
    assert problem.resolved_at is not None


def test_staff_may_have_billing_compared_with_stripe_at_once(
    staff_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(reconcile_now, "delay", asked.append)
    page = reverse("admin:plans_billingreconciliation_start_one")
    assert staff_client.get(page).status_code == 200
    assert asked == [], "following a link changes nothing"
    assert staff_client.post(page).status_code == 302
    assert asked == [int(staff_client.session["_auth_user_id"])]

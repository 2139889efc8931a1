from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry, User
from llmkeys.models import VirtualKey
from llmkeys.rotation import rotate_key
from plans.entitlements import refresh_entitlements
from plans.models import PlanGrant, StripeEvent
from tesslate.lib.cause import Cause
from tesslate.staffroom.customers import customer_page
from tesslate.staffroom.models import CustomerNote
from tests.factories import (
    CustomerFactory,
    MembershipFactory,
    OrganizationFactory,
    PlanFactory,
    PlanGrantFactory,
    SubscriptionFactory,
)
from tests.site.ledger import chat_request

TEST = Cause.system("test")


@pytest.fixture
def payer(user, free_plan):
    """Alice pays for a plan, and Stripe has told us so."""
    customer = CustomerFactory.create(user=user, stripe_customer_id="cus_Alice")
    SubscriptionFactory.create(customer=customer, price__plan__code="pro", price__plan__name="Pro")
    now = timezone.now()
    StripeEvent.objects.create(
        event_id="evt_1",
        type="invoice.paid",
        livemode=False,
        created_at=now,
        stripe_customer_id="cus_Alice",
        payload={"card": "4242 4242"},
        state="processed",
        outcome="subscription.updated",
    )
    refresh_entitlements([user.pk], cause=TEST)
    return customer


def page_of(user, client):
    return client.get(f"/admin/customers/{user.pk}")


def test_the_chain_leads_from_stripe_to_the_gateway(payer, user):
    titles = [step.title for step in customer_page(user).chain]
    assert titles[0] == "Stripe: invoice.paid"
    assert "Own subscription" in titles
    assert "Entitled to Pro" in titles
    assert titles[-1].startswith("Key …")


@pytest.mark.parametrize(
    ("state", "outcome", "first"),
    [
        ("ignored", "ignored:type", "Stripe: invoice.paid"),
        ("processed", "customer.updated", "Stripe: invoice.paid"),
        ("dead", "", "Stripe: a.later.event"),
    ],
)
def test_the_chain_begins_with_what_stripe_told_of_the_subscription(
    payer, user, state, outcome, first
):
    StripeEvent.objects.create(
        event_id="evt_2",
        type="a.later.event",
        livemode=False,
        created_at=timezone.now(),
        stripe_customer_id="cus_Alice",
        state=state,
        outcome=outcome,
    )
    step = customer_page(user).chain[0]
    assert (step.title, step.tone) == (first, "bad" if state == "dead" else "good")


def test_a_key_that_is_gone_says_so(payer, user, staff_client):
    VirtualKey.objects.filter(user=user).update(
        lifecycle="retired", removed_at=timezone.now(), desired=None, observed=None
    )
    html = page_of(user, staff_client).text
    assert "Removed from the gateway just now." in html
    assert "No worker has looked at it yet" not in html


def test_every_step_leads_somewhere(payer, user, staff_client):
    response = page_of(user, staff_client)
    for step in response.context["page"].chain:
        if step.url:
            assert staff_client.get(step.url).status_code == 200, step.title


def test_a_field_that_differs_at_the_gateway_stands_out(payer, user, staff_client):
    key = VirtualKey.objects.get(user=user)
    VirtualKey.objects.filter(pk=key.pk).update(
        desired={"models": ["a"], "rpm_limit": None}, observed={"models": []}
    )
    (panel,) = customer_page(user).keys
    assert [(each.name, each.differs) for each in panel.fields] == [("models", True)]
    assert "room-differs" in page_of(user, staff_client).text


def test_shows_no_secret(payer, user, staff_client):
    key = VirtualKey.objects.get(user=user)
    html = page_of(user, staff_client).text
    assert key.last_four in html
    assert key.secret not in html
    assert key.key_hash not in html
    assert "4242 4242" not in html


def test_counts_the_last_minute_against_the_limits(payer, user):
    chat_request(user)
    chat_request(user, started_at=timezone.now() - timedelta(minutes=2))
    bars = {bar.label: bar.words for bar in customer_page(user).bars}
    assert bars["Requests, last minute"] == "1 of 60"


def test_the_number_of_queries_does_not_grow_with_history(
    payer, user, django_assert_max_num_queries
):
    for _ in range(20):
        chat_request(user)
        AuditEntry.objects.create(user=user, action="something.happened", cause_kind="system")
        PlanGrantFactory.create(user=user)
    refresh_entitlements([user.pk], cause=TEST)
    with django_assert_max_num_queries(20):
        customer_page(User.objects.get(pk=user.pk))


def test_names_are_text(payer, user, staff_client):
    User.objects.filter(pk=user.pk).update(display_name="<img src=x onerror=alert(1)>")
    assert "<img src=x" not in page_of(user, staff_client).text


def test_an_unknown_customer_is_not_found(staff_client, free_plan):
    assert staff_client.get("/admin/customers/999999").status_code == 404


def test_notes_are_kept_with_their_author(payer, user, staff, staff_client):
    staff_client.post(f"/admin/customers/{user.pk}/notes", {"text": " Likes <b>tea</b> "})
    note = CustomerNote.objects.get()
    assert (note.text, note.author) == ("Likes <b>tea</b>", staff)
    assert "&lt;b&gt;tea" in page_of(user, staff_client).text


@pytest.mark.parametrize("text", ["", "   ", "x" * 10_000])
def test_notes_that_are_none_are_refused(payer, user, staff_client, text):
    staff_client.post(f"/admin/customers/{user.pk}/notes", {"text": text})
    assert not CustomerNote.objects.exists()


def test_of_keys_that_may_have_leaked_the_page_tells_which_was_replaced_and_what_goes_with_it(
    payer, user, staff_client
):
    old = VirtualKey.objects.get(user=user)
    new = rotate_key(key=old, cause=Cause.system("test"))
    offered = staff_client.get(f"/admin/customers/{user.pk}/do/revoke").text
    assert f"…{old.last_four} · default, replaced already, works until" in offered
    assert f"…{old.last_four}" not in staff_client.get(f"/admin/customers/{user.pk}/do/rotate").text
    answer = staff_client.post(
        f"/admin/customers/{user.pk}/do/revoke",
        {"key": new.pk, "reason": "Found on a forum", "password": "staff-password"},
        follow=True,
    )
    assert f"and with it …{old.last_four}, which it had replaced" in answer.text


def test_an_action_first_says_what_it_does(payer, user, staff_client):
    page = staff_client.get(f"/admin/customers/{user.pk}/do/rotate")
    assert "goes on working for the overlap" in page.text
    assert VirtualKey.objects.filter(user=user).count() == 1


def test_granting_a_plan(payer, user, staff, staff_client):
    team = PlanFactory.create(code="team", name="Team", rank=5000)
    data = {"plan": team.pk, "days": 3, "reason": "Outage on Monday"}
    response = staff_client.post(f"/admin/customers/{user.pk}/do/grant", data, follow=True)
    assert "Team granted until" in response.text
    grant = PlanGrant.objects.get()
    assert (grant.granted_by, grant.reason) == (staff, "Outage on Monday")
    assert customer_page(user).entitlement.plan == team


@pytest.mark.parametrize("days", ["0", "-1", "100000", "soon", ""])
def test_a_grant_needs_a_sane_end(payer, user, staff_client, days):
    plan = PlanFactory.create()
    data = {"plan": plan.pk, "days": days, "reason": "why not"}
    assert staff_client.post(f"/admin/customers/{user.pk}/do/grant", data).status_code == 200
    assert not PlanGrant.objects.exists()


def test_somebody_elses_key_is_no_choice(payer, user, stranger, staff_client):
    refresh_entitlements([stranger.pk], cause=TEST)
    theirs = VirtualKey.objects.get(user=stranger)
    data = {"key": theirs.pk, "reason": "forged"}
    assert staff_client.post(f"/admin/customers/{user.pk}/do/block", data).status_code == 200
    theirs.refresh_from_db()
    assert theirs.blocked_at is None


def test_replaying_makes_events_due(payer, user, staff_client):
    staff_client.post(f"/admin/customers/{user.pk}/do/replay")
    assert StripeEvent.objects.get().state == "pending"


def test_suspending_needs_the_password_once_more(payer, user, staff_client):
    path = f"/admin/customers/{user.pk}/do/suspend"
    refused = staff_client.post(path, {"reason": "Abuse", "password": "wrong"})
    assert "not your password" in refused.text
    user.refresh_from_db()
    assert user.suspended_at is None
    staff_client.post(path, {"reason": "Abuse", "password": "staff-password"})
    user.refresh_from_db()
    assert user.suspended_at is not None


def test_doing_it_twice_does_it_once(payer, user, staff_client):
    path = f"/admin/customers/{user.pk}/do/suspend"
    for _ in range(2):
        staff_client.post(path, {"reason": "Abuse", "password": "staff-password"})
    assert AuditEntry.objects.filter(action="user.suspended", user=user).count() == 1


def test_view_as_customer_changes_nobodys_session(payer, user, staff, staff_client):
    page = staff_client.get(f"/admin/customers/{user.pk}/view")
    assert user.email in page.text
    assert "account.js" not in page.text
    assert "<form" not in page.text
    assert staff_client.get("/api/me").json()["user"]["email"] == staff.email


def test_closing_says_first_what_would_go_on_charging(payer, user, stranger, staff_client):
    own = payer.subscriptions.get()
    alone, shared = (
        SubscriptionFactory.create(
            customer=CustomerFactory.create(user=None, organization=OrganizationFactory.create())
        )
        for _ in range(2)
    )
    for subscription in (alone, shared):
        MembershipFactory.create(organization=subscription.customer.organization, user=user)
    MembershipFactory.create(organization=shared.customer.organization, user=stranger)

    page = staff_client.get(f"/admin/customers/{user.pk}/do/close").content.decode()

    named = {sub for sub in (own, alone, shared) if f"{sub.stripe_subscription_id} of" in page}
    assert named == {own, alone}

"""The page about one organization."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from plans.entitlements import refresh_entitlements
from tesslate.lib.cause import Cause
from tesslate.staffroom.organizations import organization_page
from tests.factories import (
    CustomerFactory,
    MembershipFactory,
    OrganizationFactory,
    SubscriptionFactory,
)
from tests.site.ledger import chat_request


@pytest.fixture
def acme(user, free_plan):
    """Two members, and a subscription with one seat."""
    organization = OrganizationFactory.create(name="Acme <b>Ltd</b>")
    MembershipFactory.create(organization=organization, user=user, role="owner")
    MembershipFactory.create(organization=organization)
    payer = CustomerFactory.create(
        user=None, organization=organization, stripe_customer_id="cus_acme"
    )
    SubscriptionFactory.create(customer=payer, price__plan__name="Team", quantity=1)
    ids = list(organization.memberships.values_list("user_id", flat=True))
    refresh_entitlements(ids, cause=Cause.system("test"))
    return organization


def test_says_who_has_a_seat_and_who_has_none(acme, user):
    page = organization_page(acme)
    assert (page.seats, page.member_count, page.without_seat) == (1, 2, 1)
    by_email = {member.membership.user.email: member.has_seat for member in page.members}
    assert by_email[user.email] is True
    assert list(by_email.values()).count(True) == 1


def test_a_seat_in_another_organization_is_none_here(acme, user, staff_client):
    other = MembershipFactory.create(user=user).organization
    [member] = organization_page(other).members
    assert (member.has_seat, member.is_seated_elsewhere) == (False, True)
    assert "another organization" in staff_client.get(f"/admin/organizations/{other.pk}").text


def test_shows_what_its_members_ask_and_what_refuses_them(acme, user):
    chat_request(user, cost="0.5")
    for _ in range(3):
        chat_request(user, outcome="refused", error_code="rate_limit_exceeded", cost=None)
    page = organization_page(acme)
    (first, *_) = page.members
    assert (first.requests, str(first.cost)) == (4, "0.5000000000")
    assert [trouble[:3] for trouble in page.troubles] == [("Refused", "rate_limit_exceeded", 3)]
    assert len(page.requests) == 4


def test_the_page_leads_to_its_members_and_escapes_names(acme, user, staff_client):
    html = staff_client.get(f"/admin/organizations/{acme.pk}").text
    assert f'href="/admin/customers/{user.pk}"' in html
    assert "Acme &lt;b&gt;Ltd" in html
    assert "cus_acme" in html
    assert staff_client.get("/admin/organizations/999999").status_code == 404


def test_lists_lead_to_the_pages(acme, user, staff_client):
    organizations = staff_client.get("/admin/accounts/organization/").text
    assert f'href="/admin/organizations/{acme.pk}"' in organizations
    assert f'href="/admin/customers/{user.pk}"' in staff_client.get("/admin/accounts/user/").text


def test_the_number_of_queries_does_not_grow_with_members(acme, staff_client):
    asked = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            organization_page(acme, at=timezone.now())
        asked.append(len(queries))
        for membership in MembershipFactory.create_batch(10, organization=acme):
            chat_request(membership.user)
    assert asked[0] == asked[1]


def test_staff_without_the_right_see_nothing(acme, client):
    nobody = User.objects.create_user("new@example.com", "x", is_staff=True)
    client.force_login(nobody)
    assert client.get(f"/admin/organizations/{acme.pk}").status_code == 403

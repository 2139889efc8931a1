from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.invitations import invite
from accounts.models import Membership, Organization, User
from plans.entitlements import refresh_entitlements
from plans.models import Subscription
from tesslate.lib.cause import Cause
from tesslate.site.organizations import organization_page
from tests.factories import (
    CustomerFactory,
    MembershipFactory,
    OrganizationFactory,
    SubscriptionFactory,
    UserFactory,
    let_overage_be_billed,
)

TEST = Cause.system("test")


@pytest.fixture
def organization(user: User) -> Organization:
    organization = OrganizationFactory.create(name="Acme")
    MembershipFactory.create(organization=organization, user=user, role=Membership.Role.OWNER)
    return organization


@pytest.fixture
def subscription(organization, pro_plan) -> Subscription:
    return SubscriptionFactory.create(
        customer=CustomerFactory.create(user=None, organization=organization),
        price=pro_plan.prices.get(interval="month"),
        quantity=2,
    )


def page_of(organization, user):
    return organization_page(organization.pk, user)


def test_strangers_find_nothing(client, organization, stranger, pro_plan):
    client.force_login(stranger)
    assert client.get(f"/organizations/{organization.pk}").status_code == 404
    assert client.get("/organizations/999999999").status_code == 404


def test_visitors_sign_in_first(client, organization):
    response = client.get(f"/organizations/{organization.pk}")
    assert response["Location"] == f"/sign-in?next=/organizations/{organization.pk}"


def test_the_cap_on_usage_beyond_the_plan_is_the_owners_to_see_and_to_change(
    client, signed_in, organization, subscription
):
    address = f"/organizations/{organization.pk}"
    assert 'id="overage"' not in signed_in.get(address).text
    let_overage_be_billed(subscription, cap_cents=2500)
    html = signed_in.get(address).text
    assert "up to $25 a period for all seats" in html
    assert 'value="25"' in html
    assert "divided among the seats" in html

    member = MembershipFactory.create(organization=organization)
    client.force_login(member.user)
    assert "overage" not in client.get(address).text


def test_seats_go_to_who_joined_first(organization, subscription, user):
    for minutes in (1, 2):
        later = timezone.now() + timedelta(minutes=minutes)
        MembershipFactory.create(organization=organization, joined_at=later)
    closed = UserFactory.create(is_active=False)
    MembershipFactory.create(
        organization=organization, user=closed, joined_at=timezone.now() - timedelta(days=1)
    )
    page = page_of(organization, user)
    assert [(m.membership.user_id == closed.pk, m.has_seat) for m in page.members] == [
        (True, False),
        (False, True),
        (False, True),
        (False, False),
    ]
    assert (page.seats_taken, page.seats) == (2, 2)


def test_seats_are_those_that_give_access(organization, subscription, user):
    other = MembershipFactory.create(organization=organization).user
    late = MembershipFactory.create(
        organization=organization, joined_at=timezone.now() + timedelta(minutes=1)
    ).user
    refresh_entitlements([user.pk, other.pk, late.pk], cause=TEST)
    seated = {m.membership.user_id for m in page_of(organization, user).members if m.has_seat}
    entitled = {u.pk for u in (user, other, late) if u.current_entitlement.plan.code == "pro"}
    assert seated == entitled == {user.pk, other.pk}


def test_owners_of_an_organization_without_a_plan_may_buy_one(organization, user, pro_plan):
    page = page_of(organization, user)
    assert page.plan_name == "No plan"
    assert [words for _, words in page.offers] == [
        "Pro, $19 a month and seat",
        "Pro, $190 a year and seat",
    ]


def test_members_see_neither_invitations_nor_billing(client, organization, subscription, user):
    member = MembershipFactory.create(organization=organization).user
    invite(organization=organization, email="new@example.com", role="member", inviter=user)
    client.force_login(member)
    html = client.get(f"/organizations/{organization.pk}").text
    assert "new@example.com" not in html
    for tool in ("data-portal", "data-buy", "data-remove", "data-role", "data-open"):
        assert tool not in html


def test_grace_is_shown_with_its_end(organization, subscription, user):
    since = timezone.now() - timedelta(days=1)
    Subscription.objects.filter(pk=subscription.pk).update(status="past_due", past_due_since=since)
    standing = page_of(organization, user).standing
    end = since + timedelta(days=14)
    assert standing.tone == "warn"
    assert f"Members keep Pro until {end.day} {end:%B %Y}" in standing.text


@pytest.mark.parametrize("columns", [{"status": "unpaid"}, {"status": "past_due"}])
def test_after_grace_the_debt_is_still_shown(organization, subscription, user, columns):
    since = timezone.now() - timedelta(days=60)
    Subscription.objects.filter(pk=subscription.pk).update(past_due_since=since, **columns)
    assert page_of(organization, user).standing.tone == "bad"


def test_names_are_text(client, organization, user, pro_plan):
    organization.name = "<script>alert(1)</script>javascript:alert(2)"
    organization.save()
    client.force_login(user)
    for path in ("/account", f"/organizations/{organization.pk}"):
        html = client.get(path).text
        assert "<script>alert" not in html
        assert 'href="javascript' not in html


def test_number_of_queries_does_not_grow_with_members(client, organization, subscription, user):
    client.force_login(user)
    client.get(f"/organizations/{organization.pk}")  # decides the entitlement once

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(f"/organizations/{organization.pk}")
        return len(captured)

    alone = queries()
    MembershipFactory.create_batch(20, organization=organization)
    for n in range(10):
        invite(organization=organization, email=f"{n}@example.com", role="member", inviter=user)
    assert queries() == alone

"""Organizations buy seats; members take them in the order they joined."""

from rest_framework.test import APIClient

from accounts.models import Membership, User
from plans.entitlements import refresh_entitlements
from plans.models import Customer
from plans.selectors import current_entitlement
from tesslate.lib.cause import Cause
from tests.factories import MembershipFactory, OrganizationFactory, UserFactory
from tests.plans.shop import Shop, buy, plan_of

CAUSE = Cause.system("test")


def test_an_owner_buys_seats_and_members_get_the_plan_in_the_order_they_joined(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    team = OrganizationFactory.create()
    MembershipFactory.create(organization=team, user=user, role=Membership.Role.OWNER)
    second, third = UserFactory.create(), UserFactory.create()
    for member in (second, third):
        MembershipFactory.create(organization=team, user=member)
    url = buy(buyer, shop.price("pro"), organization=team.pk, quantity=2).json()["url"]
    session = shop.pay(url)
    shop.post()
    assert [plan_of(member) for member in (user, second, third)] == ["pro", "pro", "free"]
    assert current_entitlement(second).source == "organization"
    # One seat more, one seat fewer.
    shop.engine.set_quantity(session["subscription"], 3)
    shop.post()
    assert plan_of(third) == "pro"
    shop.engine.set_quantity(session["subscription"], 1)
    shop.post()
    assert [plan_of(member) for member in (user, second, third)] == ["pro", "free", "free"]


def test_a_member_without_a_seat_gets_none_by_being_looked_at_alone(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    """As whenever their own month ends, or something of their own changes."""
    team = OrganizationFactory.create()
    MembershipFactory.create(organization=team, user=user, role=Membership.Role.OWNER)
    second = UserFactory.create()
    MembershipFactory.create(organization=team, user=second)
    shop.pay(buy(buyer, shop.price("pro"), organization=team.pk, quantity=1).json()["url"])
    shop.post()
    assert refresh_entitlements([second.pk], cause=CAUSE) == []
    assert (plan_of(user), plan_of(second)) == ("pro", "free")


def test_a_seat_that_becomes_free_goes_to_the_next_member(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    from accounts.signals import accounts_changed

    team = OrganizationFactory.create()
    MembershipFactory.create(organization=team, user=user, role=Membership.Role.OWNER)
    second, third = UserFactory.create(), UserFactory.create()
    leaving = MembershipFactory.create(organization=team, user=second)
    MembershipFactory.create(organization=team, user=third)
    shop.pay(buy(buyer, shop.price("plus"), organization=team.pk, quantity=2).json()["url"])
    shop.post()
    leaving.delete()
    accounts_changed.send(User, user_ids=[user.pk, second.pk, third.pk], cause=CAUSE)
    assert [plan_of(member) for member in (user, second, third)] == ["plus", "free", "plus"]


def test_only_an_owner_manages_the_billing_and_strangers_see_nothing(
    shop: Shop, buyer: APIClient, user: User, stranger: User
) -> None:
    team = OrganizationFactory.create()
    MembershipFactory.create(organization=team, user=user)
    for method, address in [
        ("post", "/api/billing/checkout"),
        ("post", "/api/billing/portal"),
    ]:
        body = {"price": shop.price("plus"), "organization": team.pk}
        response = getattr(buyer, method)(address, body, format="json")
        assert response.json()["error"]["code"] == "not_an_owner"
    outsider = APIClient()
    outsider.force_authenticate(stranger)
    response = outsider.get(f"/api/billing/subscription?organization={team.pk}")
    assert response.status_code == 404
    assert not Customer.objects.exists()

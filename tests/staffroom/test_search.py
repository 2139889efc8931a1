import pytest

from llmkeys.models import VirtualKey
from plans.entitlements import refresh_entitlements
from tesslate.lib.cause import Cause
from tesslate.staffroom.search import find
from tests.factories import CustomerFactory, OrganizationFactory, SubscriptionFactory
from tests.site.ledger import chat_request


def anything(permission: str) -> bool:
    return True


def links(term: str, may_see=anything) -> list[str]:
    return [result.link for result in find(term, may_see=may_see)]


@pytest.fixture
def page(user, free_plan) -> str:
    refresh_entitlements([user.pk], cause=Cause.system("test"))
    return f"/admin/customers/{user.pk}"


@pytest.mark.parametrize(
    "term", ["alice@example.com", "ALICE@", "Alice", "firebase-alice", " alice@example.com "]
)
def test_finds_people_by_address_name_and_firebase_uid(page, user, term):
    user.firebase_uid = "firebase-alice"
    user.save()
    assert links(term) == [page]


def test_finds_people_by_their_ids_at_stripe(page, user):
    payer = CustomerFactory.create(user=user, stripe_customer_id="cus_ABC123")
    SubscriptionFactory.create(customer=payer, stripe_subscription_id="sub_XYZ789")
    # Unfold lowers the term before we see it.
    assert links("cus_abc123") == [page]
    assert links("sub_xyz789") == [page]


def test_finds_an_organization_by_its_subscription(page):
    organization = OrganizationFactory.create(name="Acme")
    payer = CustomerFactory.create(user=None, organization=organization)
    SubscriptionFactory.create(customer=payer, stripe_subscription_id="sub_team")
    assert links("sub_team") == [f"/admin/organizations/{organization.pk}"]


@pytest.mark.parametrize("form", ["{}", "sk-…{}", "…{}", "sk-...{}"])
def test_finds_people_by_the_last_four_of_a_key(page, user, form):
    key = VirtualKey.objects.get(user=user)
    assert page in links(form.format(key.last_four))


def test_finds_a_request_and_who_made_it(page, user):
    row = chat_request(user)
    assert links(row.public_id)[-1] == page
    assert str(row.pk) in links(str(row.pk))[0]


def test_shows_only_what_one_may_see(page, user):
    key = VirtualKey.objects.get(user=user)
    assert links(key.last_four, lambda permission: permission != "llmkeys.view_virtualkey") == []
    assert links("alice", lambda permission: False) == []


@pytest.mark.parametrize("term", ["", "a", "al", "%%%", "'; --", "x" * 500])
def test_nonsense_finds_nothing(page, term):
    assert links(term) == []


def test_the_palette_of_the_admin_uses_it(staff_client, page):
    html = staff_client.get("/admin/search/", {"s": "alice", "extended": 1}).text
    assert page in html

"""A closed account is erased at Stripe too, once Stripe can be reached, and it is on record."""

from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from accounts.services import delete_account
from plans.erasure import REFUSED_AGAIN_AFTER, erase_next, forget_late_events
from plans.models import BillingProblem, Customer, StripeEvent
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory
from tests.plans.shop import Shop, buy

pytestmark = pytest.mark.django_db


@pytest.fixture
def closed(shop: Shop, buyer: APIClient, user: User) -> str:
    """Alice bought, cancelled at once and closed her account; her customer's id at Stripe."""
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    [subscription] = shop.engine.request("GET", "/v1/subscriptions", {})["data"]
    shop.engine.request("DELETE", f"/v1/subscriptions/{subscription['id']}", {})
    shop.post()
    delete_account(user_id=user.pk, cause=Cause.user(user.pk))
    return str(Customer.objects.get().stripe_customer_id)


def at_stripe(shop: Shop, customer_id: str) -> Any:
    return shop.engine.request("GET", f"/v1/customers/{customer_id}", {})


def test_the_customer_goes_and_what_events_told_of_it(shop: Shop, closed: str):
    assert erase_next()
    assert not erase_next()

    assert at_stripe(shop, closed)["deleted"] is True
    assert not StripeEvent.objects.filter(
        stripe_customer_id=closed, payload__isnull=False, state="processed"
    ).exists()
    [entry] = AuditEntry.objects.filter(action="customer.deleted_at_stripe")
    assert entry.cause_reference == "erasure"


def test_what_stripe_tells_of_the_deletion_is_forgotten_too(shop: Shop, closed: str):
    erase_next()
    shop.post()
    told = StripeEvent.objects.filter(stripe_customer_id=closed, payload__isnull=False)
    assert told.filter(type="customer.deleted").exists()
    others = StripeEvent.objects.exclude(stripe_customer_id=closed).exclude(payload=None).count()

    assert forget_late_events() == 1

    assert not told.exists()
    assert StripeEvent.objects.exclude(payload=None).count() == others


def test_who_has_an_open_account_keeps_everything(
    shop: Shop,
    buyer: APIClient,
):
    buy(buyer, shop.price("plus"))

    assert not erase_next()


def close_a_customer(shop: Shop) -> Customer:
    customer = CustomerFactory.create(stripe_customer_id=shop.engine.create_customer()["id"])
    assert customer.user is not None
    delete_account(user_id=customer.user.pk, cause=Cause.system("test"))
    return customer


def erase_all() -> None:
    while erase_next():
        pass


@pytest.mark.parametrize("kind", ["duplicate", "replaced"])
def test_further_customers_of_the_account_go_too(shop: Shop, kind: str):
    customer = close_a_customer(shop)
    other = shop.engine.create_customer()["id"]
    customer.aliases.create(stripe_customer_id=other, kind=kind)

    erase_all()

    assert at_stripe(shop, other)["deleted"] is True
    assert set(customer.aliases.values_list("kind", flat=True)) == {"deleted"}
    assert AuditEntry.objects.filter(action="customer.deleted_at_stripe").count() == 2


def test_one_that_stripe_refuses_is_shown_to_staff_and_holds_up_nobody_else(shop: Shop):
    refused, following = (str(close_a_customer(shop).stripe_customer_id) for _ in range(2))
    shop.troubled = lambda method, path: (
        403 if method.lower() == "delete" and refused in path else None
    )

    erase_all()

    assert at_stripe(shop, following)["deleted"] is True
    assert not at_stripe(shop, refused).get("deleted")
    problem = BillingProblem.objects.get()
    assert (problem.kind, problem.subject, problem.occurrences) == ("erasure_refused", refused, 1)

    shop.troubled = None
    erase_all()
    assert not at_stripe(shop, refused).get("deleted")

    BillingProblem.objects.update(last_seen_at=timezone.now() - REFUSED_AGAIN_AFTER)
    erase_all()
    assert at_stripe(shop, refused)["deleted"] is True
    problem.refresh_from_db()
    assert problem.resolved_at is not None

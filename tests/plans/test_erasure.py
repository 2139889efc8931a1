"""A closed account is erased at Stripe too, once Stripe can be reached, and it is on record."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from accounts.services import delete_account
from plans.erasure import erase_next
from plans.models import Customer, StripeEvent
from tesslate.lib.cause import Cause
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


def test_who_has_an_open_account_keeps_everything(
    shop: Shop,
    buyer: APIClient,
):
    buy(buyer, shop.price("plus"))

    assert not erase_next()

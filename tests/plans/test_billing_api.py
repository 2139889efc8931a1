"""What the front end asks about prices, models and billing, and what it is refused."""

import json
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from plans.models import Checkout, Price
from sandbox.stripe.pages.portal import PortalPages
from tests.plans.shop import Shop, buy, plan_of


def test_the_price_list_is_public(shop: Shop, api: APIClient) -> None:
    plans = api.get("/api/plans").json()["plans"]
    assert [plan["code"] for plan in plans] == ["free", "plus", "pro"]
    assert [price["unit_amount"] for price in plans[1]["prices"]] == [1900, 19000]
    assert plans[1]["prices"][0]["id"] == shop.price("plus")


def test_models_say_who_may_use_them_and_what_unlocks_the_rest(
    shop: Shop, buyer: APIClient
) -> None:
    models = {model["id"]: model for model in buyer.get("/api/models").json()["models"]}
    assert models["basic-chat"]["available"] is True
    assert models["advanced-chat"]["available"] is False
    assert models["advanced-chat"]["unlocked_by"]["code"] == "plus"
    assert models["tesslate-uigen-v1"]["unlocked_by"]["code"] == "pro"


def test_a_suspended_user_has_no_model(shop: Shop, buyer: APIClient, user: User) -> None:
    user.suspended_at = timezone.now()
    user.save()
    assert not any(model["available"] for model in buyer.get("/api/models").json()["models"])


def test_the_account_page_shows_renewal_end_and_grace(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    session = shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    shown = buyer.get("/api/billing/subscription").json()["subscription"]
    assert (shown["status"], shown["plan"]["code"], shown["ends_at"]) == ("active", "plus", None)
    assert shown["renews_at"] == shown["period_end"]
    shop.engine.cancel(session["subscription"], at_period_end=True)
    shop.post()
    shown = buyer.get("/api/billing/subscription").json()["subscription"]
    assert (shown["renews_at"], shown["ends_at"]) == (None, shown["period_end"])
    shop.engine.uncancel(session["subscription"])
    shop.engine.fail_payments(session["customer"], 3)
    shop.engine.advance_past_renewal(session["subscription"])
    shop.post()
    shown = buyer.get("/api/billing/subscription").json()["subscription"]
    assert shown["status"] == "past_due"
    assert shown["grace"]["limit_percent"] == 100
    assert shown["grace"]["ends_at"] > shown["grace"]["since"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"price": "price_unheard_of"}, 400, "unknown_price"),
        ({"price": ""}, 400, "invalid_request"),
        ({"price": "x" * 300}, 400, "invalid_request"),
        ({"price": ["a"]}, 400, "invalid_request"),
        ({"price": "p", "quantity": 0}, 400, "invalid_request"),
        ({"price": "p", "organization": 12345}, 404, "not_found"),
    ],
)
def test_nonsense_is_refused_with_a_reason(
    shop: Shop, buyer: APIClient, body: dict[str, Any], status: int, code: str
) -> None:
    response = buyer.post("/api/billing/checkout", body, format="json")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert not Checkout.objects.exists()


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("get", "/api/models"),
        ("get", "/api/billing/subscription"),
        ("post", "/api/billing/checkout"),
        ("post", "/api/billing/portal"),
    ],
)
def test_nobody_unknown_gets_in(db: None, api: APIClient, method: str, address: str) -> None:
    assert getattr(api, method)(address).status_code == 401


def test_B17_in_the_portal_a_higher_plan_comes_at_once_and_a_lower_one_at_the_periods_end(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    (subscription,) = shop.engine.objects("subscription")
    portal = PortalPages(shop.engine)

    def change(plan: str) -> None:
        url = buyer.post("/api/billing/portal", {}, format="json").json()["url"]
        form = {"subscription": subscription["id"], "price": shop.price(plan)}
        portal.act(url.rpartition("/")[2], "change", form)
        shop.post()

    change("pro")
    assert plan_of(user) == "pro"
    change("plus")
    assert plan_of(user) == "pro"
    shown = buyer.get("/api/billing/subscription").json()["subscription"]
    assert shown["pending_change"]["plan"]["code"] == "plus"
    assert shown["pending_change"]["at"] == shown["period_end"]
    shop.engine.advance_past_renewal(subscription["id"])
    shop.post()
    assert plan_of(user) == "plus"


def test_the_portal_has_nothing_for_those_who_never_bought(shop: Shop, buyer: APIClient) -> None:
    response = buyer.post("/api/billing/portal", {}, format="json")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "no_billing_account")


@pytest.mark.parametrize(("trouble", "status"), [(500, 503), (429, 503), (401, 502)])
def test_stripe_in_trouble_is_told_in_our_own_words(
    shop: Shop, buyer: APIClient, trouble: int, status: int
) -> None:
    shop.troubled = lambda method, path: trouble
    response = buy(buyer, shop.price("plus"))
    assert response.status_code == status
    assert "stripe" not in json.dumps(response.json()).lower()


def test_an_archived_price_is_not_sold(shop: Shop, buyer: APIClient) -> None:
    price = shop.price("plus")
    Price.objects.filter(stripe_price_id=price).update(archived_at=timezone.now())
    assert buy(buyer, price).json()["error"]["code"] == "unknown_price"


def test_a_trial_is_for_those_who_never_subscribed(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    price = Price.objects.get(stripe_price_id=shop.price("plus"))
    price.plan.trial_days = 7
    price.plan.save()
    session = shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    assert shop.engine.object(session["subscription"])["status"] == "trialing"
    shop.engine.cancel(session["subscription"])
    shop.post()
    again = shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    assert shop.engine.object(again["subscription"])["status"] == "active"

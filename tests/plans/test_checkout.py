"""Buying, and whose purchase it is (EDGE-CASES section C), against the Stripe stand-in."""

from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from plans.models import (
    BillingNotice,
    BillingProblem,
    Checkout,
    Customer,
    StripeEvent,
    Subscription,
)
from plans.selectors import current_entitlement
from plans.settlement import settle_checkout
from tesslate.lib.cause import Cause
from tests.plans.shop import Shop, buy, plan_of, process_all

CAUSE = Cause.system("test")


def test_C01_C02_completed_before_or_after_the_subscriptions_own_events(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    events = shop.engine.events(after=shop.seen)
    completed = [e for e in events if e.type == "checkout.session.completed"]
    others = [e for e in events if e.type != "checkout.session.completed"]
    for event in completed + others:
        shop.deliver(shop.engine.event_payload(event))
        process_all()
        assert plan_of(user) == "plus"


def test_C02_the_subscriptions_events_alone_are_enough(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("pro")).json()["url"])
    shop.post("customer.subscription.created")
    assert plan_of(user) == "pro"


def test_C03_a_delayed_payment_gives_nothing_until_it_arrives(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    session = shop.pay(buy(buyer, shop.price("plus")).json()["url"], method="pm_sepaDebit")
    shop.post()
    assert session["payment_status"] == "unpaid"
    assert shop.engine.object(session["subscription"])["status"] == "active"
    assert plan_of(user) == "free"
    assert Checkout.objects.get().state == "awaiting_payment"
    shop.engine.advance(days=5)
    shop.post()
    assert plan_of(user) == "plus"
    assert Checkout.objects.get().state == "completed"


@pytest.mark.parametrize("other", ["pro", "plus"])
def test_C03_a_change_of_plans_does_not_stand_in_for_the_first_payment(
    shop: Shop, buyer: APIClient, user: User, other: str
) -> None:
    """Up, an invoice over the difference is on its way as well; down, there is one over nothing."""
    first = "plus" if other == "pro" else "pro"
    session = shop.pay(buy(buyer, shop.price(first)).json()["url"], method="pm_sepaDebit_failed")
    shop.engine.change_price(
        session["subscription"], shop.price(other), proration_behavior="always_invoice"
    )
    shop.post()
    assert shop.engine.object(session["subscription"])["status"] == "active"
    assert plan_of(user) == "free"
    shop.engine.advance(days=5)
    shop.post()
    assert plan_of(user) == "free"


def test_C04_a_delayed_payment_that_fails_gives_nothing_and_is_told(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"], method="pm_sepaDebit_failed")
    shop.post()
    shop.engine.advance(days=5)
    shop.post()
    assert plan_of(user) == "free"
    assert Checkout.objects.get().state == "payment_failed"
    assert BillingNotice.objects.filter(kind="checkout_failed").count() == 1


def test_C05_a_session_that_was_used_up_unheard_of_is_not_offered_again(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    """Bought and canceled within the hour, and no webhook told us of either."""
    used = buy(buyer, shop.price("plus")).json()["url"]
    shop.pay(used)
    (subscription,) = shop.engine.objects("subscription")
    shop.engine.cancel(subscription["id"])
    shop.skip_post()
    fresh = buy(buyer, shop.price("plus")).json()["url"]
    assert fresh != used
    assert Checkout.objects.get(url=used).state == "completed"
    shop.pay(fresh)
    shop.post()
    assert plan_of(user) == "plus"


def test_C05_an_expired_session_closes_the_checkout_and_another_can_be_opened(
    shop: Shop, buyer: APIClient
) -> None:
    first = buy(buyer, shop.price("plus")).json()["url"]
    shop.engine.advance(days=2)
    shop.post()
    assert Checkout.objects.get().state == "expired"
    assert buy(buyer, shop.price("plus")).json()["url"] != first


@pytest.mark.parametrize("mode", ["payment", "setup"])
def test_C06_other_sessions_have_nothing_to_do_with_plans(
    shop: Shop, user: User, mode: str
) -> None:
    once = shop.engine.create_price(unit_amount=500, interval=None)["id"]
    params: dict[str, Any] = {"client_reference_id": f"user_{user.pk}"}
    if mode == "payment":
        session = shop.engine.create_checkout(once, mode="payment", **params)
    else:
        session = shop.engine.request(
            "POST",
            "/v1/checkout/sessions",
            {"mode": "setup", "currency": "usd", "success_url": "https://example.com", **params},
        )
    shop.engine.complete_checkout(session["id"])
    shop.post("checkout.session.completed")
    assert StripeEvent.objects.get().outcome == "ignored:not_a_subscription"
    assert not Subscription.objects.exists()


def payment_link(shop: Shop, **params: Any) -> dict[str, Any]:
    """A session that our checkout did not make: Stripe makes a new customer for it."""
    session = shop.engine.create_checkout(shop.price("plus"), **params)
    return shop.engine.complete_checkout(session["id"], email="alice@example.com")


def test_C07_nobody_named_is_an_orphan_and_mail_alone_links_nobody(shop: Shop, user: User) -> None:
    payment_link(shop)  # with the user's own address
    shop.post()
    assert plan_of(user) == "free"
    assert set(
        StripeEvent.objects.filter(type__startswith="customer.subscription").values_list(
            "outcome", flat=True
        )
    ) == {"quarantined:orphan"}
    problem = BillingProblem.objects.get(kind="orphan_subscription")
    assert problem.resolved_at is None


def test_C07_an_orphan_is_adopted_once_support_names_its_owner(shop: Shop, user: User) -> None:
    session = payment_link(shop)
    shop.post()
    shop.engine.request(
        "POST", f"/v1/customers/{session['customer']}", {"metadata": {"user_id": str(user.pk)}}
    )
    shop.post()
    assert plan_of(user) == "plus"
    assert BillingProblem.objects.get(kind="orphan_subscription").resolved_at is not None


@pytest.mark.parametrize("reference", ["user_999999", "user_x", "organization_5", "1; DROP"])
def test_C08_a_reference_to_nobody_is_an_orphan(shop: Shop, user: User, reference: str) -> None:
    payment_link(shop, client_reference_id=reference)
    shop.post()
    assert BillingProblem.objects.filter(kind="orphan_subscription").count() == 1
    assert not Customer.objects.exists()


def test_C09_the_link_is_the_id_whatever_the_mail_says(shop: Shop, user: User) -> None:
    session = shop.engine.create_checkout(shop.price("plus"), client_reference_id=f"user_{user.pk}")
    shop.engine.complete_checkout(session["id"], email="somebody.else@example.com")
    shop.post()
    assert plan_of(user) == "plus"


def test_C10_a_second_customer_object_of_one_user_is_kept_beside_the_first(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    first = Customer.objects.get().stripe_customer_id
    session = payment_link(shop, client_reference_id=f"user_{user.pk}")
    shop.post()
    customer = Customer.objects.get()
    assert customer.stripe_customer_id == first
    assert customer.aliases.get().stripe_customer_id == session["customer"]
    assert customer.subscriptions.count() == 2
    assert BillingProblem.objects.filter(kind="duplicate_customer").exists()


def test_C11_a_customer_that_is_somebodys_cannot_be_claimed(
    shop: Shop, buyer: APIClient, user: User, stranger: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    mine = Customer.objects.get().stripe_customer_id
    session = shop.engine.create_checkout(
        shop.price("pro"), customer=mine, client_reference_id=f"user_{stranger.pk}"
    )
    shop.engine.complete_checkout(session["id"])
    shop.post()
    assert plan_of(stranger) == "free"
    assert plan_of(user) == "pro"
    assert BillingProblem.objects.filter(kind="customer_claimed_twice").count() == 1


def test_C12_who_pays_already_is_sent_to_the_portal(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    response = buy(buyer, shop.price("pro"))
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "already_subscribed"
    portal = buyer.post(response.json()["error"]["portal"], {}, format="json")
    assert portal.status_code == 200
    assert portal.json()["url"]


def test_C12_also_when_the_purchase_of_a_minute_ago_has_not_reached_us(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.skip_post()
    assert buy(buyer, shop.price("pro")).status_code == 409
    assert plan_of(user) == "plus"


def test_C12_a_double_click_gets_one_session_and_a_second_tab_closes_the_first(
    shop: Shop, buyer: APIClient
) -> None:
    first = buy(buyer, shop.price("plus")).json()["url"]
    assert buy(buyer, shop.price("plus")).json()["url"] == first
    assert len(shop.engine.objects("checkout.session")) == 1
    second = buy(buyer, shop.price("pro")).json()["url"]
    assert second != first
    states = [session["status"] for session in shop.engine.objects("checkout.session")]
    assert states == ["expired", "open"]
    assert len(shop.engine.objects("customer")) == 1


def test_C12_a_lost_answer_is_asked_for_again_without_a_second_session(
    shop: Shop, buyer: APIClient
) -> None:
    """Stripe made the session but our process never heard of it."""
    url = buy(buyer, shop.price("plus")).json()["url"]
    Checkout.objects.update(stripe_session_id=None, url="")
    assert buy(buyer, shop.price("plus")).json()["url"] == url
    assert len(shop.engine.objects("checkout.session")) == 1


def test_C13_a_full_discount_is_active_without_payment(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    coupon = shop.engine.request("POST", "/v1/coupons", {"percent_off": 100, "duration": "forever"})
    session = shop.engine.create_checkout(
        shop.price("plus"),
        client_reference_id=f"user_{user.pk}",
        discounts=[{"coupon": coupon["id"]}],
    )
    done = shop.engine.complete_checkout(session["id"])
    assert done["payment_status"] == "no_payment_required"
    shop.post()
    assert plan_of(user) == "plus"


def test_C14_a_refused_card_leaves_nothing_behind(shop: Shop, buyer: APIClient, user: User) -> None:
    from sandbox.stripe.errors import CardDeclined

    url = buy(buyer, shop.price("plus")).json()["url"]
    with pytest.raises(CardDeclined):
        shop.pay(url, method="pm_card_chargeDeclined")
    shop.post()
    assert not Subscription.objects.exists()
    shop.pay(url)
    shop.post()
    assert plan_of(user) == "plus"


def test_C14_older_endpoints_tell_of_an_incomplete_subscription_first(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    for event in shop.engine.events(after=shop.seen):
        shop.deliver(shop.engine.event_payload(event, "2025-02-24.acacia"))
    process_all()
    assert plan_of(user) == "plus"
    assert not StripeEvent.objects.filter(state__in=["dead", "quarantined", "pending"]).exists()


def test_C15_a_customer_deleted_at_stripe_loses_the_plan_and_may_buy_again(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    old = Customer.objects.get().stripe_customer_id
    assert old is not None
    shop.engine.delete_customer(old)
    shop.post("customer.deleted")
    assert plan_of(user) == "free"
    assert Customer.objects.get().stripe_customer_id is None
    shop.pay(buy(buyer, shop.price("pro")).json()["url"])
    shop.post()
    assert plan_of(user) == "pro"
    assert Customer.objects.get().stripe_customer_id != old


def test_C15_a_deletion_that_nobody_told_us_of_heals_at_the_next_checkout(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    buy(buyer, shop.price("plus"))
    customer = Customer.objects.get().stripe_customer_id
    assert customer is not None
    shop.engine.delete_customer(customer)
    shop.skip_post()
    answers = [buy(buyer, shop.price("pro")) for _ in range(2)]
    assert [answer.status_code for answer in answers] in ([503, 200], [200, 200])
    assert Customer.objects.get().stripe_customer_id != customer


def test_C16_name_and_mail_at_stripe_change_no_entitlement(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    version = current_entitlement(user).version
    customer = Customer.objects.get().stripe_customer_id
    shop.engine.request(
        "POST", f"/v1/customers/{customer}", {"email": "new@example.com", "name": "New"}
    )
    shop.post()
    assert current_entitlement(user).version == version


def test_C17_support_moves_a_customer_to_another_user(
    shop: Shop, buyer: APIClient, user: User, stranger: User
) -> None:
    shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    shop.post()
    customer = Customer.objects.get().stripe_customer_id
    shop.engine.request(
        "POST", f"/v1/customers/{customer}", {"metadata": {"user_id": str(stranger.pk)}}
    )
    shop.post()
    assert (plan_of(user), plan_of(stranger)) == ("free", "plus")
    assert AuditEntry.objects.filter(action="customer.relinked", user=stranger).exists()


def test_C18_a_checkout_for_an_unmapped_price_gives_nothing_silently(
    shop: Shop, user: User
) -> None:
    foreign = shop.engine.create_price(unit_amount=700)["id"]
    session = shop.engine.create_checkout(foreign, client_reference_id=f"user_{user.pk}")
    shop.engine.complete_checkout(session["id"])
    shop.post()
    assert plan_of(user) == "free"
    assert StripeEvent.objects.filter(outcome="quarantined:price").exists()


def test_C19_an_account_closed_between_checkout_and_webhook_is_an_orphan(
    shop: Shop, user: User
) -> None:
    payment_link(shop, client_reference_id=f"user_{user.pk}")
    user.deleted_at = timezone.now()
    user.save()
    shop.post()
    problem = BillingProblem.objects.get(kind="orphan_subscription")
    assert "refund" in problem.summary
    assert not Subscription.objects.exists()


def test_C20_whoever_returns_before_the_webhook_is_activated_there_and_then(
    shop: Shop, buyer: APIClient, user: User
) -> None:
    session = shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    address = f"/api/billing/subscription?session_id={session['id']}"
    answer = buyer.get(address).json()
    assert (answer["plan"]["code"], answer["checkout"]) == ("plus", "completed")
    version = current_entitlement(user).version
    shop.post()
    assert current_entitlement(user).version == version


def test_buying_and_managing_go_on_without_the_cache(
    shop: Shop, buyer: APIClient, settings: Any
) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1"}}
    session = shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    answer = buyer.get(f"/api/billing/subscription?session_id={session['id']}").json()
    assert (answer["plan"]["code"], answer["checkout"]) == ("plus", "completed")
    assert buyer.post("/api/billing/portal", {}, format="json").status_code == 200
    assert buyer.get("/api/billing/overage").status_code == 200


def test_C20_a_session_of_somebody_else_tells_nothing(
    shop: Shop, buyer: APIClient, api: APIClient, stranger: User
) -> None:
    session = shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    other = APIClient()
    other.force_authenticate(stranger)
    answer = other.get(f"/api/billing/subscription?session_id={session['id']}").json()
    assert answer["checkout"] is None
    assert answer["subscription"] is None
    assert not Subscription.objects.exists()


def test_settling_twice_is_settling_once(shop: Shop, buyer: APIClient, user: User) -> None:
    session = shop.pay(buy(buyer, shop.price("plus")).json()["url"])
    outcomes = [settle_checkout(session["id"], cause=CAUSE) for _ in range(2)]
    assert outcomes == ["checkout.completed"] * 2
    assert AuditEntry.objects.filter(action="subscription.created").count() == 1

"""Events, webhook endpoints, checkout and portal sessions."""

import time

import pytest
import stripe

from sandbox.stripe.testing import RunningStripe
from tests.contract.stripe.conftest import Target, eventually

pytestmark = pytest.mark.contract

ADDRESS = "https://example.com/webhooks"


def test_events_of_a_new_subscription_can_be_listed(target: Target):
    begun = int(time.time()) - 5
    sub = target.subscribe(target.customer().id, target.price().id)
    types = ["customer.subscription.created", "invoice.paid"]

    def told():
        listed = target.v1.events.list(
            {"types": types, "created": {"gte": begun}, "limit": 100}
        ).auto_paging_iter()
        ours = [e for e in listed if e.data.object["id"] in (sub.id, sub.latest_invoice)]
        return ours if len(ours) == len(types) else None

    found = eventually(told)
    assert {event.type for event in found} == set(types)
    for event in found:
        assert event.livemode is False
        assert event.request.id.startswith("req_")
        assert target.v1.events.retrieve(event.id).type == event.type


def test_update_event_tells_what_was_before(target: Target):
    made = target.customer(None, name="Before")
    target.v1.customers.update(made.id, {"name": "After"})

    def told():
        listed = target.v1.events.list({"type": "customer.updated", "limit": 100}).data
        return next((e for e in listed if e.data.object["id"] == made.id), None)

    event = eventually(told)
    assert event.data.object["name"] == "After"
    assert event.data.previous_attributes["name"] == "Before"


def test_webhook_endpoint_shows_its_secret_once(target: Target):
    made = target.v1.webhook_endpoints.create(
        {"url": ADDRESS, "enabled_events": ["invoice.paid"], "api_version": "2025-02-24.acacia"}
    )
    try:
        assert made.secret.startswith("whsec_")
        assert (made.status, made.api_version) == ("enabled", "2025-02-24.acacia")
        again = target.v1.webhook_endpoints.retrieve(made.id)
        assert "secret" not in again
        changed = target.v1.webhook_endpoints.update(made.id, {"disabled": True})
        assert changed.status == "disabled"
    finally:
        assert target.v1.webhook_endpoints.delete(made.id).deleted is True


def test_unknown_event_type_is_refused_for_an_endpoint(target: Target):
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.webhook_endpoints.create(
            {"url": ADDRESS, "enabled_events": ["moon.phase_changed"]}
        )


# --- checkout


def session_for(target: Target, **params):
    return target.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "line_items": [{"price": target.price(2000).id, "quantity": 1}],
            "success_url": "https://example.com/ok?s={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://example.com/no",
            **params,
        }
    )


def test_checkout_session_carries_what_it_was_given(target: Target):
    customer = target.customer(None)
    made = session_for(
        target,
        customer=customer.id,
        client_reference_id="user-7",
        metadata={"a": "b"},
        allow_promotion_codes=True,
        subscription_data={"metadata": {"user_id": "7"}, "trial_period_days": 7},
    )
    again = target.v1.checkout.sessions.retrieve(made.id, {"expand": ["line_items"]})
    assert again.url.startswith("http")
    assert (again.status, again.payment_status, again.mode) == ("open", "unpaid", "subscription")
    assert (again.customer, again.client_reference_id) == (customer.id, "user-7")
    assert again.metadata["a"] == "b"
    assert again.subscription is None
    assert again.line_items.data[0].quantity == 1
    assert again.success_url.endswith("{CHECKOUT_SESSION_ID}")
    assert 23 * 3600 < again.expires_at - again.created <= 24 * 3600 + 5


def test_checkout_session_can_be_expired_once(target: Target):
    made = session_for(target)
    assert target.v1.checkout.sessions.expire(made.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.checkout.sessions.expire(made.id)


def test_checkout_needs_line_items_and_an_active_price(target: Target):
    given = {"mode": "subscription", "success_url": "https://example.com"}
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.checkout.sessions.create(given)
    price = target.price().id
    target.v1.prices.update(price, {"active": False})
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.checkout.sessions.create(
            {**given, "line_items": [{"price": price, "quantity": 1}]}
        )


def test_paid_checkout_links_customer_subscription_and_invoice(
    target: Target, sandbox: RunningStripe
):
    made = session_for(
        target, client_reference_id="user-7", subscription_data={"metadata": {"user_id": "7"}}
    )
    sandbox.control("POST", f"sessions/{made.id}/complete", {"email": "paid@example.com"})
    done = target.v1.checkout.sessions.retrieve(
        made.id, {"expand": ["subscription", "invoice", "customer"]}
    )
    assert (done.status, done.payment_status) == ("complete", "paid")
    assert done.subscription.status == "active"
    assert done.subscription.metadata["user_id"] == "7"
    assert done.invoice.parent.subscription_details.subscription == done.subscription.id
    assert done.customer.email == done.customer_details.email == "paid@example.com"
    found = target.v1.checkout.sessions.list({"subscription": done.subscription.id}).data
    assert [session.id for session in found] == [made.id]


# --- portal


def test_portal_session_leads_back_where_it_came_from(target: Target):
    customer = target.customer(None)
    configuration = target.v1.billing_portal.configurations.create(
        {
            "business_profile": {
                "privacy_policy_url": "https://example.com/p",
                "terms_of_service_url": "https://example.com/t",
            },
            "features": {"invoice_history": {"enabled": True}},
        }
    )
    made = target.v1.billing_portal.sessions.create(
        {
            "customer": customer.id,
            "return_url": "https://example.com/account",
            "configuration": configuration.id,
        }
    )
    assert made.url.startswith("http")
    assert (made.customer, made.return_url) == (customer.id, "https://example.com/account")
    target.v1.billing_portal.configurations.update(configuration.id, {"active": False})


def test_portal_needs_a_customer_that_exists(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.billing_portal.sessions.create({"customer": "cus_nope"})
    assert refusal.value.code == "resource_missing"

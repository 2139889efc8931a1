"""Keys, errors, idempotency, paging, expansion: what every call has in common."""

import secrets
from typing import Any

import pytest
import stripe

from tests.contract.stripe.conftest import Target, eventually

pytestmark = pytest.mark.contract


def test_wrong_key_401(target: Target):
    client = stripe.StripeClient(
        "sk_test_" + "0" * 24, base_addresses={"api": target.url} if target.url else {}
    )
    with pytest.raises(stripe.AuthenticationError) as refusal:
        client.v1.customers.list()
    assert refusal.value.http_status == 401


@pytest.mark.parametrize(
    ("resource", "id"),
    [
        ("customers", "cus_nope"),
        ("subscriptions", "sub_nope"),
        ("invoices", "in_nope"),
        ("prices", "price_nope"),
        ("products", "prod_nope"),
        ("events", "evt_nope"),
    ],
)
def test_unknown_object_404(target: Target, resource: str, id: str):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        getattr(target.v1, resource).retrieve(id)
    assert refusal.value.http_status == 404
    assert refusal.value.code == "resource_missing"
    assert id in str(refusal.value.user_message)
    assert str(refusal.value.request_id).startswith("req_")


def test_unknown_parameter_400_and_named(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.customers.create({"colour": "red"})
    assert (refusal.value.code, refusal.value.param) == ("parameter_unknown", "colour")


def test_missing_parameter_400_and_named(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.prices.create({"unit_amount": 100, "product": target.product().id})
    assert (refusal.value.code, refusal.value.param) == ("parameter_missing", "currency")


def test_bad_integer_400_and_named(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.customers.list({"limit": "many"})
    assert (refusal.value.code, refusal.value.param) == ("parameter_invalid_integer", "limit")


def test_word_that_is_none_of_the_allowed_400(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.subscriptions.list({"status": "sleeping"})
    assert (refusal.value.http_status, refusal.value.param) == (400, "status")


def test_declined_card_402_with_its_decline_code(target: Target):
    with pytest.raises(stripe.CardError) as refusal:
        target.v1.payment_methods.attach(
            "pm_card_chargeDeclinedInsufficientFunds", {"customer": target.customer(None).id}
        )
    assert refusal.value.http_status == 402
    assert refusal.value.code == "card_declined"
    details: Any = refusal.value.error
    assert details.decline_code == "insufficient_funds"


# --- idempotency


def test_same_key_same_answer_one_object(target: Target):
    key, email = secrets.token_hex(12), f"{secrets.token_hex(6)}@example.com"
    first = target.v1.customers.create({"email": email}, {"idempotency_key": key})
    again = target.v1.customers.create({"email": email}, {"idempotency_key": key})
    target.customers.append(first.id)
    assert again.id == first.id
    headers = {name.lower(): value for name, value in again.last_response.headers.items()}
    assert headers["idempotent-replayed"] == "true"
    assert len(target.v1.customers.list({"email": email}).data) == 1


def test_same_key_other_parameters_is_refused(target: Target):
    key = secrets.token_hex(12)
    first = target.v1.customers.create({"name": "One"}, {"idempotency_key": key})
    target.customers.append(first.id)
    with pytest.raises(stripe.IdempotencyError) as refusal:
        target.v1.customers.create({"name": "Two"}, {"idempotency_key": key})
    assert refusal.value.http_status == 400


# --- paging


def test_automatic_paging_visits_everything_once(target: Target):
    email = f"{secrets.token_hex(6)}@example.com"
    made = [target.customer(None, email=email).id for _ in range(5)]

    def visited() -> list[str]:
        listed = target.v1.customers.list({"email": email, "limit": 2})
        return [customer.id for customer in listed.auto_paging_iter()]

    assert eventually(lambda: len(visited()) == 5)
    assert visited() == made[::-1]


def test_page_before_a_cursor(target: Target):
    email = f"{secrets.token_hex(6)}@example.com"
    made = [target.customer(None, email=email).id for _ in range(3)]
    given = {"email": email, "ending_before": made[0], "limit": 1}
    page = eventually(lambda: target.v1.customers.list(given).data)
    assert [customer.id for customer in page] == [made[1]]


def test_limit_over_a_hundred_is_refused(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.customers.list({"limit": 101})
    assert refusal.value.param == "limit"


# --- expansion


def test_reference_is_an_id_until_it_is_expanded(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id)
    assert isinstance(sub.customer, str)
    assert isinstance(sub.latest_invoice, str)
    paths = ["customer", "latest_invoice.payments"]
    shown = target.v1.subscriptions.retrieve(sub.id, {"expand": paths})
    assert shown.customer.id == sub.customer
    payment = shown.latest_invoice.payments.data[0]
    assert payment.status == "paid"
    assert payment.payment.type == "payment_intent"
    assert isinstance(payment.payment.payment_intent, str)


def test_what_cannot_be_expanded_is_refused(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.customers.retrieve(target.customer(None).id, {"expand": ["moon"]})
    assert refusal.value.http_status == 400


def test_account_is_in_test_mode(target: Target):
    account = target.v1.accounts.retrieve_current()
    assert account.id.startswith("acct_")
    assert account.object == "account"

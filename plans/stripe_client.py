"""Every call to Stripe. The only module that imports the `stripe` package.

Answers are plain dicts as Stripe sent them, under the pinned API version. Each POST carries an
idempotency key derived from our own rows, so a lost answer is asked for again without a second
effect. Failures are StripeUnavailable (try again) or StripeRejected (do not); an object that
Stripe does not know reads as None.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import quote

import stripe
from django.conf import settings

from plans.errors import StripeRejected, StripeUnavailable

TIMEOUT_SECONDS = 10
PAGE = 100
# What a subscription's reading needs beside the subscription itself.
EXPANDED = ["schedule", "latest_invoice"]

Json = dict[str, Any]


class Stripe:
    """A connection to one Stripe account.

    ``http_client`` lets tests answer without a network. The library repeats a failed request
    ``retries`` times by itself; whoever calls decides about anything beyond that.
    """

    def __init__(self, http_client: stripe.HTTPClient | None = None, *, retries: int = 1) -> None:
        self._client = stripe.StripeClient(
            settings.STRIPE_SECRET_KEY,
            stripe_version=settings.STRIPE_API_VERSION,
            base_addresses={"api": settings.STRIPE_API_URL},
            max_network_retries=retries,
            http_client=http_client or stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
        )

    # Subscriptions and what belongs to them

    def subscription(self, subscription_id: str) -> Json | None:
        """The subscription with all its items, its schedule and its latest invoice."""
        found = self._find("/v1/subscriptions", subscription_id, expand=EXPANDED)
        return None if found is None else self._with_all_items(found)

    def subscriptions(self, *, customer: str | None = None) -> Iterator[Json]:
        """Every subscription, ended ones included, newest first."""
        given: Json = {} if customer is None else {"customer": customer}
        expand = [f"data.{name}" for name in EXPANDED]
        for found in self._pages("/v1/subscriptions", status="all", expand=expand, **given):
            yield self._with_all_items(found)

    def _with_all_items(self, subscription: Json) -> Json:
        items = subscription.get("items") or {}
        if items.get("has_more"):
            every = list(self._pages("/v1/subscription_items", subscription=subscription["id"]))
            subscription["items"] = {**items, "data": every, "has_more": False}
        return subscription

    def update_subscription(
        self, subscription_id: str, *, idempotency_key: str, **fields: Any
    ) -> Json:
        return self._post(f"/v1/subscriptions/{subscription_id}", idempotency_key, fields)

    def latest_invoices(self, subscription_id: str) -> list[Json]:
        """The subscription's last hundred invoices, newest first."""
        page = self._request(
            "get", "/v1/invoices", {"subscription": subscription_id, "limit": PAGE}
        )
        invoices: list[Json] = page["data"]
        return invoices

    def invoice(self, invoice_id: str) -> Json | None:
        return self._find("/v1/invoices", invoice_id)

    def invoices(self, *, created_from: int) -> Iterator[Json]:
        """Every invoice made since then, newest first."""
        return self._pages("/v1/invoices", created={"gte": created_from})

    def invoice_lines(self, invoice: Mapping[str, Any]) -> Iterator[Json]:
        """All lines of an invoice; those that came with it save a request."""
        lines = invoice.get("lines") or {}
        if lines.get("has_more") or "data" not in lines:
            return self._pages(f"/v1/invoices/{quote(invoice['id'], safe='')}/lines")
        return iter(lines["data"])

    def invoice_payments(
        self, *, invoice: str | None = None, payment_intent: str | None = None
    ) -> Iterator[Json]:
        """What was paid, or is to be paid, to an invoice; or by one payment intent."""
        if invoice is not None:
            return self._pages("/v1/invoice_payments", invoice=invoice)
        by_intent = {"type": "payment_intent", "payment_intent": payment_intent}
        return self._pages("/v1/invoice_payments", payment=by_intent)

    def payment_intent(self, intent_id: str) -> Json | None:
        """The intent with its latest charge, and what that moved in our balance."""
        expand = ["latest_charge.balance_transaction"]
        return self._find("/v1/payment_intents", intent_id, expand=expand)

    def refunds(self, *, payment_intent: str) -> Iterator[Json]:
        return self._pages("/v1/refunds", payment_intent=payment_intent)

    def refunds_since(self, *, created_from: int) -> Iterator[Json]:
        return self._pages("/v1/refunds", created={"gte": created_from})

    def disputes(self, *, payment_intent: str) -> Iterator[Json]:
        return self._pages("/v1/disputes", payment_intent=payment_intent)

    def credit_notes(self, *, invoice: str) -> Iterator[Json]:
        return self._pages("/v1/credit_notes", invoice=invoice)

    def checkout_session(self, session_id: str) -> Json | None:
        return self._find("/v1/checkout/sessions", session_id)

    def charge(self, charge_id: str) -> Json | None:
        return self._find("/v1/charges", charge_id)

    def refund(self, refund_id: str) -> Json | None:
        return self._find("/v1/refunds", refund_id)

    def dispute(self, dispute_id: str) -> Json | None:
        return self._find("/v1/disputes", dispute_id)

    def events(self, *, created_from: int) -> Iterator[Json]:
        """Events of the last 30 days at most (Stripe keeps no more), newest first."""
        return self._pages("/v1/events", created={"gte": created_from})

    # Customers, checkout, portal

    def customer(self, customer_id: str) -> Json | None:
        """The customer; a deleted one answers ``{"id", "deleted": True}``."""
        return self._find("/v1/customers", customer_id)

    def create_customer(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/customers", idempotency_key, fields)

    def delete_customer(self, customer_id: str) -> None:
        """Erase the customer. One that Stripe does not know counts as erased."""
        try:
            self._request("delete", f"/v1/customers/{quote(customer_id, safe='')}", {})
        except StripeRejected as error:
            if error.code != "resource_missing":
                raise

    def create_checkout_session(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/checkout/sessions", idempotency_key, fields)

    def expire_checkout_session(self, session_id: str) -> None:
        """Make sure that nobody can pay through this session any more.

        Raises StripeRejected when it was completed meanwhile.
        """
        self._post(f"/v1/checkout/sessions/{session_id}/expire", f"expire:{session_id}", {})

    def create_portal_session(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/billing_portal/sessions", idempotency_key, fields)

    def portal_configurations(self) -> Iterator[Json]:
        """Those that sessions may use, newest first."""
        return self._pages("/v1/billing_portal/configurations", active=True)

    def create_portal_configuration(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/billing_portal/configurations", idempotency_key, fields)

    def update_portal_configuration(
        self, configuration_id: str, *, idempotency_key: str, **fields: Any
    ) -> Json:
        path = f"/v1/billing_portal/configurations/{configuration_id}"
        return self._post(path, idempotency_key, fields)

    def webhook_endpoints(self) -> Iterator[Json]:
        return self._pages("/v1/webhook_endpoints")

    # Overage

    def meters(self) -> Iterator[Json]:
        return self._pages("/v1/billing/meters", status="active")

    def create_meter(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/billing/meters", idempotency_key, fields)

    def create_meter_event(self, *, identifier: str, **fields: Any) -> None:
        """Raises StripeRejected with code ``duplicate_meter_event`` for an identifier that was
        taken before."""
        fields["identifier"] = identifier
        self._post("/v1/billing/meter_events", f"meter-event:{identifier}", fields)

    def meter_summaries(
        self, meter_id: str, *, customer: str, start: int, end: int
    ) -> Iterator[Json]:
        """What the meter counts for a customer between two midnights (UTC)."""
        path = f"/v1/billing/meters/{quote(meter_id, safe='')}/event_summaries"
        return self._pages(path, customer=customer, start_time=start, end_time=end)

    def price_by_lookup_key(self, lookup_key: str) -> Json | None:
        return next(self._pages("/v1/prices", lookup_keys=[lookup_key]), None)

    def create_subscription_item(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/subscription_items", idempotency_key, fields)

    # Catalogue

    def product(self, product_id: str) -> Json | None:
        return self._find("/v1/products", product_id)

    def products(self) -> Iterator[Json]:
        return self._pages("/v1/products")

    def price(self, price_id: str) -> Json | None:
        return self._find("/v1/prices", price_id)

    def prices(self, *, product: str) -> Iterator[Json]:
        return self._pages("/v1/prices", product=product)

    def create_product(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/products", idempotency_key, fields)

    def update_product(self, product_id: str, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post(f"/v1/products/{product_id}", idempotency_key, fields)

    def create_price(self, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post("/v1/prices", idempotency_key, fields)

    def update_price(self, price_id: str, *, idempotency_key: str, **fields: Any) -> Json:
        return self._post(f"/v1/prices/{price_id}", idempotency_key, fields)

    # Transport

    def _find(self, path: str, found_id: str, **params: Any) -> Json | None:
        if not found_id:
            return None
        try:
            return self._request("get", f"{path}/{quote(found_id, safe='')}", params)
        except StripeRejected as error:
            if error.code == "resource_missing":
                return None
            raise

    def _pages(self, path: str, **params: Any) -> Iterator[Json]:
        params["limit"] = PAGE
        while True:
            page = self._request("get", path, params)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            params["starting_after"] = page["data"][-1]["id"]

    def _post(self, path: str, idempotency_key: str, fields: Json) -> Json:
        return self._request("post", path, {**fields, "idempotency_key": idempotency_key})

    def _request(self, method: str, path: str, params: Json) -> Json:
        try:
            response = self._client.raw_request(method, path, **params)
        except stripe.RateLimitError as error:
            raise StripeUnavailable(f"{path}: rate limited") from error
        except stripe.APIConnectionError as error:
            raise StripeUnavailable(f"{path}: no answer") from error
        except stripe.StripeError as error:
            raise _failure(path, error) from error
        data: Json = response.data
        return data


def _failure(path: str, error: stripe.StripeError) -> StripeUnavailable | StripeRejected:
    status = error.http_status or 0
    # 409: another request with the same idempotency key is still under way.
    if status == 0 or status >= 500 or status in {409, 429}:
        return StripeUnavailable(f"{path}: status {status or 'unknown'}")
    detail = str(error.code or type(error).__name__)
    return StripeRejected(f"{path}: status {status}, {detail}", code=str(error.code or ""))


@cache
def _connection() -> Stripe:
    return Stripe()


_override: list[Stripe] = []


def connection() -> Stripe:
    """This process's connection."""
    return _override[-1] if _override else _connection()


@contextmanager
def connected_to(other: Stripe) -> Iterator[Stripe]:
    """Speak to ``other`` instead, within the block (tests, histories)."""
    _override.append(other)
    try:
        yield other
    finally:
        _override.pop()

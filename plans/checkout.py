"""What a payer can do: buy a plan at Stripe's checkout, and manage it in Stripe's portal.

Calls to Stripe whose answer the page needs; none is made inside a transaction.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization, User
from plans import stripe_client
from plans.access import is_live
from plans.customers import Payer, customer_for, existing_customer, forget_deleted
from plans.errors import (
    AlreadySubscribed,
    BillingRefused,
    BillingUnavailable,
    NotAnOwner,
    NothingToManage,
    StripeRejected,
    StripeUnavailable,
    UnknownPrice,
)
from plans.models import Checkout, Customer, Price
from plans.portal import configuration_for
from plans.selectors import live_subscriptions, owns, prices_on_sale
from plans.settlement import settle_checkout
from plans.stripe_reading import moment
from plans.subscriptions import read_back
from tesslate.lib.cause import Cause
from tesslate.lib.errors import NotFound, PermissionDenied

# Back from Stripe, the page of whoever pays knows by these what to wait for.
AFTER_CHECKOUT = "?checkout=success&session_id={CHECKOUT_SESSION_ID}"
AFTER_PORTAL = "?portal=back"

# Stripe's own sessions live this long; ours is told apart from a newer one by its own row.
SESSION_LIFE = timedelta(hours=24)


def payer_for(user: User, organization_id: int | None) -> Payer:
    """Whose billing ``user`` may manage: their own, or that of an organization they own."""
    if user.deleted_at is not None:
        raise PermissionDenied("The account is closed.")
    if organization_id is None:
        return Payer(user_id=user.pk)
    if not user.memberships.filter(organization_id=organization_id).exists():
        raise NotFound
    if not owns(user, organization_id):
        raise NotAnOwner
    return Payer(organization_id=organization_id)


def open_checkout(
    *, user: User, price_id: str, organization_id: int | None = None, quantity: int = 1
) -> str:
    """The address of a Stripe page where this price can be bought.

    A second click, or a second tab, gets the same session. A payer who has a subscription
    already gets AlreadySubscribed instead of a second one, also when we had not heard of it.
    Raises UnknownPrice, NotAnOwner, BillingUnavailable, BillingRefused.
    """
    payer = payer_for(user, organization_id)
    price = prices_on_sale().filter(stripe_price_id=price_id).select_related("plan").first()
    if price is None:
        raise UnknownPrice(param="price")
    with told_to_callers():
        customer = _customer_with_stripe_id(payer, user)
        _refuse_second_subscription(customer, user)
        seats = quantity if organization_id else 1
        checkout, replaced = _reserve(customer, price, seats)
        if checkout.url and _is_over(checkout, user):
            _refuse_second_subscription(customer, user)
            checkout, replaced = _reserve(customer, price, seats)
        if replaced:
            _expire(replaced, user)
        return checkout.url or _start_session(checkout, user)


def open_portal(*, user: User, organization_id: int | None = None) -> str:
    """The address of Stripe's portal for this payer. Raises NothingToManage before a purchase."""
    payer = payer_for(user, organization_id)
    customer = existing_customer(payer)
    if customer is None or customer.stripe_customer_id is None:
        raise NothingToManage
    fields: dict[str, Any] = {}
    configuration = configuration_for(is_organization=organization_id is not None)
    if configuration is not None:
        fields["configuration"] = configuration
    with told_to_callers():
        session = stripe_client.connection().create_portal_session(
            # A portal session is good for minutes only: a repeated click wants a new one.
            idempotency_key=f"portal:{uuid.uuid4()}",
            customer=customer.stripe_customer_id,
            return_url=_page_of(payer) + AFTER_PORTAL,
            **fields,
        )
    return str(session["url"])


@contextmanager
def told_to_callers() -> Iterator[None]:
    try:
        yield
    except StripeUnavailable as error:
        raise BillingUnavailable(retry_after=5) from error
    except StripeRejected as error:
        raise BillingRefused from error


def _customer_with_stripe_id(payer: Payer, user: User) -> Customer:
    with transaction.atomic():
        customer = customer_for(payer)
        if customer is None:
            raise NotFound
        former = customer.aliases.count()
    if customer.stripe_customer_id is not None:
        return customer
    name = user.display_name
    if payer.organization_id is not None:
        name = Organization.objects.get(pk=payer.organization_id).name
    created = stripe_client.connection().create_customer(
        # Two clicks make one customer; after a deletion at Stripe the count gives a new key.
        idempotency_key=f"customer:{customer.pk}:{_made(customer)}:{former}",
        email=user.email,
        name=name or user.email,
        metadata=payer.metadata(),
    )
    Customer.objects.filter(pk=customer.pk, stripe_customer_id=None).update(
        stripe_customer_id=created["id"]
    )
    customer.refresh_from_db()
    return customer


def _refuse_second_subscription(customer: Customer, user: User) -> None:
    """Ask Stripe itself: a payment of a minute ago may not have reached us yet."""
    assert customer.stripe_customer_id is not None
    cause = Cause.user(user.pk, "checkout")
    for found in stripe_client.connection().subscriptions(customer=customer.stripe_customer_id):
        if is_live(str(found.get("status"))):
            with transaction.atomic():
                read_back(found["id"], cause=cause, stripe_customer_id=customer.stripe_customer_id)
    if live_subscriptions(customer).exists():
        raise AlreadySubscribed(details={"portal": "/api/billing/portal"})


def _reserve(customer: Customer, price: Price, quantity: int) -> tuple[Checkout, list[Checkout]]:
    """The open checkout to use, and those that must not be paid any more."""
    now = timezone.now()
    with transaction.atomic():
        Customer.objects.select_for_update().get(pk=customer.pk)
        replaced = []
        for row in customer.checkouts.filter(state=Checkout.State.OPEN):
            same = row.price_id == price.pk and row.quantity == quantity
            if same and row.expires_at > now:
                return row, []
            row.state = Checkout.State.EXPIRED
            row.save(update_fields=["state", "updated_at"])
            replaced.append(row)
        row = customer.checkouts.create(
            price=price, quantity=quantity, expires_at=now + SESSION_LIFE
        )
    return row, replaced


def _is_over(checkout: Checkout, user: User) -> bool:
    """Was the session paid, or closed, and nobody told us? Then our row follows it."""
    session_id = str(checkout.stripe_session_id)
    session = stripe_client.connection().checkout_session(session_id)
    if session is not None and session.get("status") == "open":
        return False
    with transaction.atomic():
        settle_checkout(session_id, cause=Cause.user(user.pk, "checkout"))
        Checkout.objects.filter(pk=checkout.pk, state=Checkout.State.OPEN).update(
            state=Checkout.State.EXPIRED
        )
    return True


def _expire(replaced: list[Checkout], user: User) -> None:
    """Close sessions for other prices at Stripe. One that was paid meanwhile is a purchase."""
    stripe = stripe_client.connection()
    for row in replaced:
        if not row.stripe_session_id:
            continue
        try:
            stripe.expire_checkout_session(row.stripe_session_id)
        except StripeRejected:
            session = stripe.checkout_session(row.stripe_session_id)
            if session is not None and session.get("status") == "complete":
                raise AlreadySubscribed(details={"portal": "/api/billing/portal"}) from None


def _start_session(checkout: Checkout, user: User) -> str:
    stripe = stripe_client.connection()
    try:
        session = stripe.create_checkout_session(
            idempotency_key=_session_key(checkout), **_session_fields(checkout)
        )
    except StripeRejected as error:
        checkout.state = Checkout.State.EXPIRED
        checkout.save(update_fields=["state", "updated_at"])
        customer_id = checkout.customer.stripe_customer_id
        if error.code == "resource_missing" and customer_id and _is_gone(customer_id):
            # Deleted at Stripe and nobody told us: the next click makes a new customer.
            with transaction.atomic():
                forget_deleted(customer_id, cause=Cause.user(user.pk, "checkout"))
            raise BillingUnavailable(retry_after=1) from error
        raise
    checkout.stripe_session_id = session["id"]
    checkout.url = session.get("url") or ""
    checkout.expires_at = moment(session.get("expires_at")) or checkout.expires_at
    checkout.save(update_fields=["stripe_session_id", "url", "expires_at", "updated_at"])
    return checkout.url


def _is_gone(customer_id: str) -> bool:
    found = stripe_client.connection().customer(customer_id)
    return found is None or found.get("deleted") is True


def _session_key(checkout: Checkout) -> str:
    return f"checkout:{checkout.pk}:{_made(checkout)}"


def _made(row: Customer | Checkout) -> str:
    """Tells our row from one of the same number in another database on the same account."""
    return row.created_at.strftime("%Y%m%d%H%M%S%f")


def _session_fields(checkout: Checkout) -> dict[str, Any]:
    customer, price = checkout.customer, checkout.price
    payer = Payer(customer.user_id, customer.organization_id)
    subscription: dict[str, Any] = {"metadata": payer.metadata()}
    # A trial is for those who never had a subscription.
    if price.plan.trial_days and not customer.subscriptions.exists():
        subscription["trial_period_days"] = price.plan.trial_days
    fields: dict[str, Any] = {
        "mode": "subscription",
        "customer": customer.stripe_customer_id,
        "client_reference_id": str(payer),
        "line_items": [{"price": price.stripe_price_id, "quantity": checkout.quantity}],
        "metadata": payer.metadata(),
        "subscription_data": subscription,
        "success_url": _page_of(payer) + AFTER_CHECKOUT,
        "cancel_url": _left_to(payer),
        "allow_promotion_codes": settings.STRIPE_PROMOTION_CODES,
    }
    if settings.STRIPE_AUTOMATIC_TAX:
        fields["automatic_tax"] = {"enabled": True}
        fields["customer_update"] = {"address": "auto"}
    return fields


def _page_of(payer: Payer) -> str:
    """Where the site shows this payer's billing."""
    if payer.organization_id is not None:
        return f"{settings.PUBLIC_URL}/organizations/{payer.organization_id}"
    return f"{settings.PUBLIC_URL}/account"


def _left_to(payer: Payer) -> str:
    """Where somebody lands who leaves the checkout without paying."""
    if payer.organization_id is not None:
        return f"{_page_of(payer)}?checkout=canceled"
    return f"{settings.PUBLIC_URL}/?checkout=canceled"

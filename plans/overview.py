"""A payer's own view of their billing, and of the models they may use."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from accounts.models import User
from plans.access import MEANINGS
from plans.checkout import payer_for
from plans.customers import existing_customer
from plans.errors import StripeError
from plans.models import Checkout, CurrentEntitlement, Customer, GatewayModel, Plan, Price
from plans.models import Subscription as Row
from plans.selectors import current_entitlement, live_subscriptions
from plans.settlement import settle_checkout
from tesslate.lib.caching import is_first
from tesslate.lib.cause import Cause

# A page that waits for its webhook may make us look at Stripe this often, per session.
LOOK_EVERY_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Billing:
    organization: int | None
    plan: Plan
    source: str
    subscription: dict[str, Any] | None
    checkout: str | None
    can_manage: bool


def billing_of(
    user: User, *, organization_id: int | None = None, session_id: str | None = None
) -> Billing:
    """What the account page shows. ``session_id`` is the checkout that the payer returns from."""
    payer = payer_for(user, organization_id)
    customer = existing_customer(payer)
    checkout = None if customer is None else _checkout_state(customer, session_id, user)
    row = None if customer is None else _shown_subscription(customer)
    entitlement = current_entitlement(user)
    return Billing(
        organization=organization_id,
        plan=entitlement.plan,
        source=entitlement.source,
        subscription=None if row is None else _describe(row, entitlement),
        checkout=checkout,
        can_manage=bool(customer and customer.stripe_customer_id),
    )


def _shown_subscription(customer: Customer) -> Row | None:
    """The live one with the highest plan, else the last that ended."""
    live = live_subscriptions(customer).first()
    if live is not None:
        return live
    return customer.subscriptions.select_related("price__plan", "last_good_price__plan").first()


def _checkout_state(customer: Customer, session_id: str | None, user: User) -> str | None:
    """The state of the payer's checkout; whoever returns before the webhook settles it here."""
    rows = customer.checkouts.all()
    row = (rows.filter(stripe_session_id=session_id) if session_id else rows).first()
    if row is None:
        return None
    is_open = row.state == Checkout.State.OPEN
    if is_open and session_id and is_first(f"settle:{session_id}", LOOK_EVERY_SECONDS):
        try:
            with transaction.atomic():
                settle_checkout(session_id, cause=Cause.user(user.pk, "return"))
        except StripeError:
            return "activating"
        row.refresh_from_db()
    if row.state == Checkout.State.COMPLETED and not customer.subscriptions.exists():
        return "activating"
    return row.state


def _describe(row: Row, entitlement: CurrentEntitlement) -> dict[str, Any]:
    price = row.price or row.last_good_price
    ends_at = row.cancel_at or (row.current_period_end if row.cancel_at_period_end else None)
    ended = row.ended_at is not None or row.status in {"canceled", "incomplete_expired"}
    return {
        "id": row.stripe_subscription_id,
        "status": row.status,
        "meaning": MEANINGS.get(row.status, "Being looked into by our staff."),
        "plan": None if price is None else price.plan,
        "price": price,
        "quantity": row.quantity,
        "period_start": row.current_period_start,
        "period_end": row.current_period_end,
        "renews_at": None if ended or ends_at else row.current_period_end,
        "ends_at": row.ended_at if ended else ends_at,
        "trial_end": row.trial_end if row.status == "trialing" else None,
        "pending_change": _pending_change(row),
        "grace": _grace(row, price, entitlement),
    }


def _grace(row: Row, price: Price | None, entitlement: CurrentEntitlement) -> dict[str, Any] | None:
    if row.status != "past_due" or row.past_due_since is None or price is None:
        return None
    return {
        "since": row.past_due_since,
        "ends_at": row.past_due_since + timedelta(days=price.plan.grace_days),
        "limit_percent": price.plan.grace_limit_percent,
    }


def _pending_change(row: Row) -> dict[str, Any] | None:
    change = row.pending_change
    if not change:
        return None
    price = (
        Price.objects.filter(stripe_price_id__in=change.get("prices") or [])
        .select_related("plan")
        .order_by("-plan__rank")
        .first()
    )
    at = change.get("at")
    return {
        "kind": change.get("kind"),
        "plan": None if price is None else price.plan,
        "at": datetime.fromtimestamp(at, UTC) if at else None,
    }


def models_for(user: User) -> list[dict[str, Any]]:
    """Every model on offer: which the user may use now, and which plan unlocks the others."""
    plan = current_entitlement(user).plan
    mine = set(plan.gateway_models.values_list("pk", flat=True)) if user.may_use_models else set()
    unlocking: dict[int, Plan] = {}
    on_sale = Plan.objects.filter(is_public=True, archived_at=None).order_by("-rank")
    for candidate in on_sale.prefetch_related("gateway_models"):
        for model in candidate.gateway_models.all():
            unlocking[model.pk] = candidate
    return [
        {
            "id": model.name,
            "title": model.title,
            "provider": model.provider,
            "description": model.description,
            "context_window": model.context_window,
            "available": model.pk in mine,
            "unlocked_by": None if model.pk in mine else unlocking.get(model.pk),
        }
        for model in GatewayModel.objects.filter(disabled_at=None)
        if model.pk in mine or model.pk in unlocking
    ]

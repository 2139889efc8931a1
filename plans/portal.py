"""What payers may do in Stripe's billing portal: one configuration for people, one for
organizations, published with the plans.

A higher price acts at once. A lower one, a shorter interval and a cancellation come at the end of
the period that is paid. Only organizations choose a number of seats.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts.audit import record_act
from plans import stripe_client
from plans.models import Plan, PortalConfiguration
from plans.steps import Step
from plans.stripe_client import Json
from tesslate.lib.cause import Cause

Payer = PortalConfiguration.Payer
MANAGED_BY = "tesslate"
# Stripe offers no more in one portal.
MOST_PRODUCTS = 10


def configuration_for(*, is_organization: bool) -> str | None:
    """The id at Stripe; None before anything was published: the account's default holds then."""
    payer = Payer.ORGANIZATION if is_organization else Payer.USER
    rows = PortalConfiguration.objects.filter(payer=payer)
    return rows.values_list("stripe_configuration_id", flat=True).first()


def portal_steps(cause: Cause) -> Iterator[Step]:
    """What is to be done for both configurations, given the prices published by now.

    A configuration carries the fingerprint of what we set: one that was changed by hand at Stripe
    is left alone until our own rules change.
    """
    at_stripe = _ours_at_stripe()
    for payer in Payer:
        features = _features(payer)
        fingerprint = _fingerprint(features)
        found = at_stripe.get(payer)
        if found is None:
            yield Step(
                f"create the billing portal for {payer.label.lower()}",
                lambda payer=payer, features=features: _create(payer, features, cause),  # type: ignore[misc]
            )
            continue
        row = PortalConfiguration.objects.filter(payer=payer).first()
        if row is None or row.stripe_configuration_id != found["id"]:
            yield Step(
                f"adopt the billing portal {found['id']} for {payer.label.lower()}",
                lambda payer=payer, found=found: _note(payer, found["id"], cause),  # type: ignore[misc]
            )
        if found["metadata"].get("rules") != fingerprint:
            yield Step(
                f"update the billing portal {found['id']} for {payer.label.lower()}",
                lambda payer=payer, features=features, found=found: _update(  # type: ignore[misc]
                    found["id"], payer, features
                ),
            )


def _ours_at_stripe() -> dict[str, Json]:
    found: dict[str, Json] = {}
    for configuration in stripe_client.connection().portal_configurations():
        metadata = configuration.get("metadata") or {}
        if metadata.get("managed_by") == MANAGED_BY:
            found.setdefault(str(metadata.get("payer")), configuration)
    return found


def _features(payer: Payer) -> Json:
    products = _products()
    changes = ["price"]
    if payer == Payer.ORGANIZATION:
        changes.append("quantity")
    if settings.STRIPE_PROMOTION_CODES:
        changes.append("promotion_code")
    update: Json = {"enabled": bool(products)}
    if products:
        update |= {
            "default_allowed_updates": changes,
            "products": products,
            "proration_behavior": "always_invoice",
            "schedule_at_period_end": {
                "conditions": [
                    {"type": "decreasing_item_amount"},
                    {"type": "shortening_interval"},
                ]
            },
        }
    return {
        # The address to write to is the one people sign in with.
        "customer_update": {"enabled": True, "allowed_updates": ["name", "address", "tax_id"]},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {
            "enabled": True,
            "mode": "at_period_end",
            "proration_behavior": "none",
        },
        "subscription_update": update,
    }


def _products() -> list[Json]:
    plans = Plan.objects.filter(
        is_public=True,
        archived_at=None,
        prices__archived_at=None,
        prices__stripe_price_id__isnull=False,
    )
    found: list[Json] = []
    for plan in plans.exclude(stripe_product_id="").distinct()[:MOST_PRODUCTS]:
        prices = plan.prices.filter(archived_at=None, stripe_price_id__isnull=False)
        ids = list(prices.order_by("pk").values_list("stripe_price_id", flat=True))
        found.append({"product": plan.stripe_product_id, "prices": ids})
    return found


def _fingerprint(features: Json) -> str:
    return hashlib.sha256(json.dumps(features, sort_keys=True).encode()).hexdigest()[:32]


def _fields(payer: Payer, features: Json) -> dict[str, Any]:
    return {
        "features": features,
        "default_return_url": f"{settings.PUBLIC_URL}/account",
        "metadata": {
            "managed_by": MANAGED_BY,
            "payer": str(payer),
            "rules": _fingerprint(features),
        },
    }


def _create(payer: Payer, features: Json, cause: Cause) -> None:
    made = stripe_client.connection().create_portal_configuration(
        # A lost answer is asked for again with the same rules; the next run adopts what it left.
        idempotency_key=f"portal:{payer}:{_fingerprint(features)}",
        **_fields(payer, features),
    )
    _note(payer, made["id"], cause)


def _update(configuration_id: str, payer: Payer, features: Json) -> None:
    stripe_client.connection().update_portal_configuration(
        configuration_id,
        idempotency_key=f"portal:{configuration_id}:{uuid.uuid4().hex}",
        **_fields(payer, features),
    )


def _note(payer: Payer, configuration_id: str, cause: Cause) -> None:
    with transaction.atomic():
        row, _ = PortalConfiguration.objects.update_or_create(
            payer=payer, defaults={"stripe_configuration_id": configuration_id}
        )
        record_act(
            action="portal.published",
            cause=cause,
            target=row,
            after={"configuration": configuration_id},
        )

"""Bring Stripe's catalogue in line with our plans: products and prices, made or adopted once.

Nothing at Stripe is deleted. A price never changes there: a new amount is a new price, and the
old one is archived, which leaves everybody who has it on it (grandfathering).
"""

import uuid
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from django.db import transaction
from django.db.models import F

from accounts.audit import record_act
from plans import stripe_client
from plans.models import Plan, Price
from plans.portal import portal_steps
from plans.steps import Step
from plans.stripe_client import Json
from plans.stripe_reading import object_id
from tesslate.lib.cause import Cause

# Marks what is ours on an account that others may share.
MANAGED_BY = "tesslate"


def publish_plans(*, apply: bool, cause: Cause, tell: Callable[[str], None]) -> int:
    """Publish every plan that has prices, then the billing portal's rules; returns how many
    steps there were.

    Each step is told before it is done. With ``apply`` false nothing is done anywhere. Running
    it again after any interruption carries on: products and prices are found by their id, then by
    our metadata and lookup keys, and made under idempotency keys. Raises StripeError.
    """
    products = _our_products()
    count = 0
    plans = Plan.objects.filter(prices__isnull=False).distinct()
    steps_of_plans = (_plan_steps(plan, products, cause) for plan in plans)
    # Each step is worked out when the one before is done.
    for step in chain.from_iterable(chain(steps_of_plans, [portal_steps(cause)])):
        tell(step.text)
        count += 1
        if apply:
            step.act()
    return count


def _our_products() -> dict[str, Json]:
    """Products that carry a plan's code in our metadata, by that code; archived ones come last."""
    found: dict[str, Json] = {}
    for product in stripe_client.connection().products():
        metadata = product.get("metadata") or {}
        code = metadata.get("plan")
        if metadata.get("managed_by") != MANAGED_BY or not code:
            continue
        if code not in found or (product.get("active") and not found[code].get("active")):
            found[code] = product
    return found


def _plan_steps(plan: Plan, products: dict[str, Json], cause: Cause) -> Iterator[Step]:
    product = stripe_client.connection().product(plan.stripe_product_id)
    if product is None or product.get("deleted"):
        product = products.get(plan.code)
    yield from _product_steps(plan, product, cause)
    plan.refresh_from_db(fields=["stripe_product_id"])
    existing: list[Json] = []
    if product is not None:
        existing = list(stripe_client.connection().prices(product=product["id"]))
    # Those on sale first: Stripe archives no price while its product has it as the default one.
    for price in plan.prices.order_by(F("archived_at").asc(nulls_first=True), "pk"):
        yield from _price_steps(price, existing, cause)


def _product_steps(plan: Plan, product: Json | None, cause: Cause) -> Iterator[Step]:
    wanted: Json = {
        "name": plan.name,
        "description": plan.description or plan.name,
        "active": plan.archived_at is None,
        "metadata": {"managed_by": MANAGED_BY, "plan": plan.code},
    }
    if product is None:
        yield Step(
            f"create product for plan {plan.code}", lambda: _create_product(plan, wanted, cause)
        )
        return
    if plan.stripe_product_id != product["id"]:
        yield Step(
            f"adopt product {product['id']} for plan {plan.code}",
            lambda: _note_product(plan, product["id"], cause),
        )
    # Stripe keeps metadata that others added.
    metadata = {**(product.get("metadata") or {}), **wanted["metadata"]}
    if any(product.get(name) != wanted[name] for name in ("name", "description", "active")) or (
        metadata != product.get("metadata")
    ):
        yield Step(
            f"update product {product['id']} of plan {plan.code}",
            lambda: _update_product(product["id"], plan, wanted),
        )


def _create_product(plan: Plan, wanted: Json, cause: Cause) -> None:
    # Named for the row: a retry after a lost answer finds the same product.
    key = f"product:{plan.code}:{plan.created_at:%Y%m%d%H%M%S%f}:{plan.stripe_product_id}"
    product = stripe_client.connection().create_product(idempotency_key=key, **wanted)
    _note_product(plan, product["id"], cause)


def _note_product(plan: Plan, product_id: str, cause: Cause) -> None:
    with transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(stripe_product_id=product_id)
        record_act(action="plan.published", cause=cause, target=plan, after={"product": product_id})


def _update_product(product_id: str, plan: Plan, wanted: Json) -> None:
    stripe_client.connection().update_product(
        product_id, idempotency_key=_fresh("product", product_id, plan.version), **wanted
    )


def _price_steps(price: Price, existing: list[Json], cause: Cause) -> Iterator[Step]:
    at_stripe = _price_at_stripe(price, existing)
    if at_stripe is None:
        if price.archived_at is None:
            yield Step(f"create price {price}", lambda: _create_price(price, cause))
        return
    if price.stripe_price_id != at_stripe["id"]:
        yield Step(
            f"adopt price {at_stripe['id']} as {price}",
            lambda: _note_price(price, at_stripe["id"], cause),
        )
    on_sale = price.archived_at is None
    if not on_sale and object_id(at_stripe.get("product")) != price.plan.stripe_product_id:
        return  # mapped by staff from elsewhere: others may still sell it
    if bool(at_stripe.get("active")) != on_sale:
        word = "reactivate" if on_sale else "archive"
        yield Step(
            f"{word} price {at_stripe['id']} ({price})",
            lambda: _set_active(at_stripe, on_sale),
        )


def _price_at_stripe(price: Price, existing: list[Json]) -> Json | None:
    """By id; else one of the product's that is exactly it and that no other row has."""
    if price.stripe_price_id:
        return next(
            (found for found in existing if found["id"] == price.stripe_price_id), None
        ) or stripe_client.connection().price(price.stripe_price_id)
    if price.archived_at is not None:
        return None
    for found in existing:
        same = (
            found.get("unit_amount") == price.unit_amount
            and found.get("currency") == price.currency
            and (found.get("recurring") or {}).get("interval") == price.interval
            and (found.get("recurring") or {}).get("interval_count", 1) == 1
        )
        if same and found.get("active") and not _is_taken(found["id"]):
            return found
    return None


def _is_taken(price_id: str) -> bool:
    return Price.objects.filter(stripe_price_id=price_id).exists()


def _create_price(price: Price, cause: Cause) -> None:
    """The lookup key moves to the new price, away from the one that it replaces."""
    product_id = Plan.objects.values_list("stripe_product_id", flat=True).get(pk=price.plan_id)
    fields: dict[str, Any] = {
        "product": product_id,
        "unit_amount": price.unit_amount,
        "currency": price.currency,
        "recurring": {"interval": price.interval},
        "metadata": {"managed_by": MANAGED_BY, "plan": price.plan.code},
    }
    if price.lookup_key:
        fields |= {"lookup_key": price.lookup_key, "transfer_lookup_key": True}
    key = f"price:{product_id}:{price.pk}:{price.unit_amount}:{price.currency}:{price.interval}"
    found = stripe_client.connection().create_price(idempotency_key=key, **fields)
    _note_price(price, found["id"], cause)


def _note_price(price: Price, price_id: str, cause: Cause) -> None:
    with transaction.atomic():
        Price.objects.filter(pk=price.pk).update(stripe_price_id=price_id)
        record_act(action="price.published", cause=cause, target=price, after={"price": price_id})


def _set_active(price: Json, active: bool) -> None:
    price_id, product_id = price["id"], object_id(price.get("product"))
    stripe = stripe_client.connection()
    if not active and _default_price(product_id) == price_id:
        stripe.update_product(
            product_id,
            idempotency_key=_fresh("default_price", product_id),
            default_price=_price_on_sale(product_id),
        )
    stripe.update_price(price_id, idempotency_key=_fresh("price", price_id, active), active=active)


def _default_price(product_id: str) -> str:
    product = stripe_client.connection().product(product_id)
    return "" if product is None else object_id(product.get("default_price"))


def _price_on_sale(product_id: str) -> str:
    """One that may take an archived price's place as the default; empty for none."""
    prices = Price.objects.filter(
        plan__stripe_product_id=product_id, archived_at=None, stripe_price_id__isnull=False
    )
    return prices.values_list("stripe_price_id", flat=True).first() or ""


def _fresh(*parts: object) -> str:
    """A key for setting a value: setting it twice is harmless, an old answer would not be."""
    return ":".join([*(str(part) for part in parts), uuid.uuid4().hex])

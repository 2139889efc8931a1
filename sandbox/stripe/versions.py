"""Older API versions: the same objects with the fields where they used to be.

Stripe renders an event in the version of the endpoint it goes to, and an answer in the version the
caller asks for. What moved, and when, is in Stripe's changelog; the stand-in knows the moves that a
subscription business can notice:

- before 2026-03-25.dahlia: names of checkout's `ui_mode`
- before 2025-09-30.clover: a discount's and a promotion code's coupon
- before 2025-03-31.basil: periods of a subscription, an invoice's subscription and payment, invoice
  lines' price and proration, a charge's invoice
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.rendering import plan_of, render

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

BASIL = "2025-03-31"
CLOVER = "2025-09-30"
DAHLIA = "2026-03-25"
NEWEST = "2026-10-28"

_VERSION = re.compile(r"\d{4}-\d\d-\d\d(\.[a-z]+)?")


def checked(version: str) -> str:
    if not _VERSION.fullmatch(version) or version[:10] > NEWEST:
        raise InvalidRequest(f"Invalid Stripe API version: {version}")
    return version


def is_current(version: str) -> bool:
    return version[:10] >= DAHLIA


def before_basil(version: str) -> bool:
    return version[:10] < BASIL


def render_as(world: "World", shown: Any, version: str) -> Any:
    """A rendered object, list or event in the shape of `version`. The original stays as it is."""
    if is_current(version):
        return shown
    if isinstance(shown, list):
        return [render_as(world, child, version) for child in shown]
    if not isinstance(shown, dict):
        return shown
    older = {name: render_as(world, child, version) for name, child in shown.items()}
    kind = shown.get("object")
    if kind == "event":
        _older_event(world, older, version)
        return older
    if not isinstance(kind, str):
        return older  # an event's `data`, whose `object` is the object itself
    for since, moves in _MOVES:
        if version[:10] < since and kind in moves:
            moves[kind](world, older)
    return older


def _older_event(world: "World", event: Json, version: str) -> None:
    """Update events say under `previous_attributes` what moved, too."""
    obj, previous = event["data"]["object"], event["data"].get("previous_attributes")
    event["api_version"] = version
    if not previous or obj.get("object") != "subscription" or not before_basil(version):
        return
    items = previous.get("items", {}).get("data") or []
    for name in ("current_period_start", "current_period_end"):
        if items and items[0].get(name) != obj.get(name):
            previous[name] = items[0].get(name)


def _session(world: "World", obj: Json) -> None:
    names = {"hosted_page": "hosted", "embedded_page": "embedded", "elements": "custom"}
    obj["ui_mode"] = names.get(obj["ui_mode"], obj["ui_mode"])


def _coupon_of(world: "World", coupon: Any) -> Any:
    found = world.find("coupon", coupon) if isinstance(coupon, str) else None
    return render(world, found) if found else coupon


def _discount(world: "World", obj: Json) -> None:
    obj["coupon"] = _coupon_of(world, obj.pop("source", {}).get("coupon"))


def _promotion_code(world: "World", obj: Json) -> None:
    obj["coupon"] = _coupon_of(world, obj.pop("promotion", {}).get("coupon"))


def _subscription(world: "World", obj: Json) -> None:
    items = obj["items"]["data"]
    if items:
        obj["current_period_start"] = items[0]["current_period_start"]
        obj["current_period_end"] = items[0]["current_period_end"]
    if len(items) == 1:
        obj["plan"], obj["quantity"] = items[0]["plan"], items[0].get("quantity")
    discount = world.find("discount", next((d for d in obj["discounts"] if d), None))
    obj["discount"] = None
    if discount:
        obj["discount"] = render(world, discount)
        _discount(world, obj["discount"])


def _invoice(world: "World", obj: Json) -> None:
    parent = obj.pop("parent", None) or {}
    details = parent.get("subscription_details") or {}
    obj["subscription"] = details.get("subscription")
    obj["subscription_details"] = {"metadata": details.get("metadata")}
    held = world.find("invoice", obj.get("id")) or {}
    intent = world.find("payment_intent", held.get("_intent"))
    obj["payment_intent"] = intent["id"] if intent else None
    obj["charge"] = intent["latest_charge"] if intent else None
    obj["paid"] = obj["status"] == "paid"
    obj["paid_out_of_band"] = bool(held.get("_out_of_band"))
    obj["tax"] = None
    obj["discount"] = None
    obj["total_tax_amounts"] = obj.pop("total_taxes", [])
    for gone in ("amount_overpaid", "amount_paid_off_stripe", "status_details"):
        obj.pop(gone, None)


def _line(world: "World", obj: Json) -> None:
    parent, pricing = obj.pop("parent", None) or {}, obj.pop("pricing", None) or {}
    details = parent.get(parent.get("type", ""), None) or {}
    price = world.find("price", (pricing.get("price_details") or {}).get("price"))
    obj["price"] = render(world, price) if price else None
    obj["plan"] = plan_of(price) if price and price["recurring"] else None
    obj["proration"] = bool(details.get("proration"))
    obj["proration_details"] = details.get("proration_details") or {"credited_items": None}
    obj["subscription"] = details.get("subscription")
    obj["subscription_item"] = details.get("subscription_item")
    obj["invoice_item"] = details.get("invoice_item")
    of_item = parent.get("type") == "invoice_item_details"
    obj["type"] = "invoiceitem" if of_item else "subscription"
    obj["tax_amounts"], obj["tax_rates"] = obj.pop("taxes", []), []
    obj["unit_amount_excluding_tax"] = pricing.get("unit_amount_decimal")


def _payment(world: "World", obj: Json) -> None:
    intent = obj["id"] if obj["object"] == "payment_intent" else obj["payment_intent"]
    payments = list(world.state.each("invoice_payment", "_intent", intent))
    obj["invoice"] = payments[0]["invoice"] if payments else None


_Move = Callable[["World", Json], None]
_MOVES: tuple[tuple[str, dict[str | None, _Move]], ...] = (
    (DAHLIA, {"checkout.session": _session}),
    (CLOVER, {"discount": _discount, "promotion_code": _promotion_code}),
    (
        BASIL,
        {
            "subscription": _subscription,
            "invoice": _invoice,
            "line_item": _line,
            "charge": _payment,
            "payment_intent": _payment,
        },
    ),
)

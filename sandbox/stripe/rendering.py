"""From what the stand-in holds to what the API shows, and the expanding of references."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.shapes import blank, listing

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

LINES_SHOWN = 10
MAX_EXPANSION = 4


def render(world: "World", obj: Json) -> Json:
    """What the API shows of an object. Parts may be shared with the state: do not change them."""
    shown = {name: value for name, value in obj.items() if name[0] != "_"}
    part = _PARTS.get(obj["object"])
    if part:
        part(world, obj, shown)
    return shown


def plan_of(price: Json) -> Json:
    """The legacy twin of a recurring price that subscription items still carry."""
    plan = blank("plan")
    recurring = price["recurring"] or {}
    for name in ("id", "active", "billing_scheme", "created", "currency", "livemode", "metadata"):
        plan[name] = price[name]
    for name in ("interval", "interval_count", "meter", "trial_period_days", "usage_type"):
        plan[name] = recurring.get(name)
    plan["amount"] = price["unit_amount"]
    plan["amount_decimal"] = price["unit_amount_decimal"]
    for name in ("nickname", "product", "tiers_mode"):
        plan[name] = price[name]
    return plan


def subscription_item(world: "World", item: Json) -> Json:
    price = render(world, world.get("price", item["price"]))
    return {**item, "price": price, "plan": plan_of(price)}


def _subscription(world: "World", obj: Json, shown: Json) -> None:
    shown["items"] = listing(
        [subscription_item(world, item) for item in obj["items"]],
        f"/v1/subscription_items?subscription={obj['id']}",
    )
    shown["items"]["total_count"] = len(obj["items"])


def _invoice(world: "World", obj: Json, shown: Json) -> None:
    lines = obj["_lines"]
    shown["lines"] = listing(
        lines[:LINES_SHOWN],
        f"/v1/invoices/{obj['id']}/lines",
        has_more=len(lines) > LINES_SHOWN,
    )
    shown["lines"]["total_count"] = len(lines)


def _balance_transaction(world: "World", obj: Json, shown: Json) -> None:
    shown["status"] = "available" if obj["available_on"] <= world.now() else "pending"


_PARTS: dict[str, Callable[["World", Json, Json], None]] = {
    "subscription": _subscription,
    "invoice": _invoice,
    "balance_transaction": _balance_transaction,
}


# --- expanding


def _payments(world: "World", obj: Json) -> Json:
    found = [render(world, p) for p in world.state.each("invoice_payment", "invoice", obj["id"])]
    return listing(found, f"/v1/invoice_payments?invoice={obj['id']}")


def _confirmation_secret(world: "World", obj: Json) -> Json | None:
    for payment in world.state.each("invoice_payment", "invoice", obj["id"]):
        intent = world.get("payment_intent", payment["_intent"])
        return {"client_secret": intent["client_secret"], "type": "payment_intent"}
    return None


def _line_items(world: "World", obj: Json) -> Json:
    held = world.get("checkout.session", obj["id"])
    data = []
    for line in held["_line_items"]:
        price = render(world, world.get("price", line["price"]))
        data.append({**line, "price": price})
    return listing(data, f"/v1/checkout/sessions/{obj['id']}/line_items")


def _subscriptions(world: "World", obj: Json) -> Json:
    held = world.state.each("subscription", "customer", obj["id"])
    live = [render(world, s) for s in held if s["status"] not in ("canceled", "incomplete_expired")]
    return listing(live[::-1], f"/v1/customers/{obj['id']}/subscriptions")


def _refunds(world: "World", obj: Json) -> Json:
    found = [render(world, r) for r in world.state.each("refund", "charge", obj["id"])]
    return listing(found[::-1], f"/v1/charges/{obj['id']}/refunds")


def _tiers(world: "World", obj: Json) -> Any:
    return world.get("price", obj["id"]).get("_tiers")


def _applies_to(world: "World", obj: Json) -> Any:
    return world.get("coupon", obj["id"]).get("_applies_to")


# Fields that are absent unless asked for.
INCLUDABLE: dict[tuple[str, str], Callable[["World", Json], Any]] = {
    ("invoice", "payments"): _payments,
    ("invoice", "confirmation_secret"): _confirmation_secret,
    ("checkout.session", "line_items"): _line_items,
    ("customer", "subscriptions"): _subscriptions,
    ("charge", "refunds"): _refunds,
    ("price", "tiers"): _tiers,
    ("coupon", "applies_to"): _applies_to,
}


def expand(world: "World", shown: Json, paths: Iterable[str]) -> Json:
    """Replace references in an object (or list of objects) by what they refer to."""
    for path in paths:
        steps = path.split(".")
        if len(steps) > MAX_EXPANSION + (steps[0] == "data"):
            raise InvalidRequest(
                f"You cannot expand more than {MAX_EXPANSION} levels of a property. "
                f"Property: {path}",
                param="expand",
            )
        shown = _expanded(world, shown, steps, path)
    return shown


def _expanded(world: "World", node: Any, steps: list[str], path: str) -> Any:
    if node is None:
        return None
    if isinstance(node, list):
        return [_expanded(world, child, steps, path) for child in node]
    if isinstance(node, str):
        found = world.lookup(node)
        if found is None:
            raise _not_expandable(path)
        return _expanded(world, render(world, found), steps, path)
    if not steps:
        return node
    if not isinstance(node, dict):
        raise _not_expandable(path)
    step, rest = steps[0], steps[1:]
    included = INCLUDABLE.get((node.get("object", ""), step))
    if included:
        child = node[step] if step in node else included(world, node)
    elif step in node:
        child = node[step]
    elif node.get("deleted"):
        return node
    else:
        raise _not_expandable(path)
    if not rest and not isinstance(child, (str, list, type(None))) and not included:
        if isinstance(child, dict) and "object" in child:
            return node  # shown in full already
        raise _not_expandable(path)
    return {**node, step: _expanded(world, child, rest, path)}


def _not_expandable(path: str) -> InvalidRequest:
    return InvalidRequest(f"This property cannot be expanded ({path}).", param="expand")

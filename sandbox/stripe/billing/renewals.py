"""What a subscription does by itself as time passes: renew, end its trial, end, resume, expire."""

from typing import TYPE_CHECKING, Any

import orjson

from sandbox.stripe import timers
from sandbox.stripe.billing import (
    amounts,
    changes,
    collection,
    invoices,
    items,
    lines,
    methods,
    proration,
    subscriptions,
)
from sandbox.stripe.billing.collection import LIVE
from sandbox.stripe.rendering import render

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

DAY = 86_400

RENEWAL_ORDER = (
    "customer.subscription.updated",
    "invoice.created",
    *collection.COLLECTION_ORDER[:-2],
)


def period_end(sub: Json) -> int:
    """When the next period of any item ends."""
    return min((item["current_period_end"] for item in sub["items"]), default=2**40)


def _moments(world: "World", sub: Json) -> list[tuple[int, str]]:
    """All that lies ahead, with what it is; of one moment, earlier entries go first."""
    found: list[tuple[int | None, str]] = []
    status = sub["status"]
    if status == "incomplete":
        if not _bank_is_busy(world, sub):
            hours = world.behaviour.incomplete_hours
            found.append((sub["created"] + int(hours * 3600), "expire"))
    elif status in LIVE:
        found.append((sub["cancel_at"], "end"))
        if status == "trialing" and not sub.get("_trial_notice"):
            notice = sub["trial_end"] - world.behaviour.trial_notice_days * DAY
            found.append((max(notice, sub["trial_start"]), "trial_notice"))
        ends = period_end(sub)
        if sub.get("_announced") != ends and sub["cancel_at"] != ends and status != "unpaid":
            found.append((ends - world.behaviour.upcoming_days * DAY, "announce"))
        found.append((ends, "renew"))
        if sub["pause_collection"]:
            found.append((sub["pause_collection"]["resumes_at"], "collect_again"))
    if sub["pending_update"]:
        found.append((sub["pending_update"]["expires_at"], "drop_change"))
    return [(moment, what) for moment, what in found if moment is not None]


def _bank_is_busy(world: "World", sub: Json) -> bool:
    invoice = world.find("invoice", sub["latest_invoice"])
    intent = world.find("payment_intent", invoice["_intent"]) if invoice else None
    return bool(intent and intent["status"] == "processing")


def _due(world: "World", sub: Json) -> int | None:
    return min((moment for moment, _ in _moments(world, sub)), default=None)


def _fire(world: "World", sub: Json) -> None:
    now = world.now()
    due = [
        what for moment, what in sorted(_moments(world, sub), key=lambda m: m[0]) if moment <= now
    ]
    if due:
        _ACTIONS[due[0]](world, sub)


def _expire(world: "World", sub: Json) -> None:
    before = world.public(sub)
    world.edit(sub).update(status="incomplete_expired", ended_at=world.now())
    invoice = world.find("invoice", sub["latest_invoice"])
    if invoice and invoice["status"] == "open":
        invoices.void(world, invoice)
    world.emit("customer.subscription.updated", sub, before=before)


def _end(world: "World", sub: Json) -> None:
    subscriptions.final_invoice(world, world.edit(sub))  # prorations still waiting
    collection.end(world, sub, reason="cancellation_requested")


def _trial_notice(world: "World", sub: Json) -> None:
    world.edit(sub)["_trial_notice"] = True
    world.emit("customer.subscription.trial_will_end", sub)


def _collect_again(world: "World", sub: Json) -> None:
    before = world.public(sub)
    world.edit(sub)["pause_collection"] = None
    world.emit("customer.subscription.updated", sub, before=before)


def _announce(world: "World", sub: Json) -> None:
    """`invoice.upcoming`: a preview of the renewal, without an id, as it does not exist yet."""
    world.edit(sub)["_announced"] = period_end(sub)
    # A period hardly longer than the notice would be announced before it began.
    if period_end(sub) - min(i["current_period_start"] for i in sub["items"]) <= DAY:
        return
    ends = period_end(sub)
    with world.trial_run():
        invoice = next_invoice(world, sub)
        shown = render(world, invoice)
        del shown["id"]
        body = orjson.dumps({**shown, "next_payment_attempt": ends})
    world.emit_raw("invoice.upcoming", body)


def next_invoice(world: "World", sub: Json) -> Json:
    """The renewal invoice as it would be made at the end of the period. For trial runs only."""
    return _renewal_invoice(world, sub, period_end(sub))


def _renew(world: "World", sub: Json) -> None:
    now = world.now()
    with world.events_in_order(RENEWAL_ORDER):
        if sub["status"] == "trialing" and _trial_ends_without_method(world, sub):
            return
        before = world.public(sub)
        _renewal_invoice(world, sub, now)
        if sub["status"] == "trialing":
            sub["status"] = "active"
        world.emit("customer.subscription.updated", sub, before=before)
        _collect_renewal(world, sub)


def _renewal_invoice(world: "World", sub: Json, now: int) -> Json:
    """Move the items whose period is over into their next one, and draft the invoice for it."""
    world.edit(sub)
    over = [item for item in sub["items"] if item["current_period_end"] <= now]
    ended = (min(i["current_period_start"] for i in over), now)
    made: list[Json] = []
    for item in over:
        made += _usage_lines(world, sub, item)
        items.set_period(world, sub, item, now)
    made += items.full_lines(world, sub, over)
    invoice = invoices.draft(
        world,
        world.get("customer", sub["customer"]),
        reason="subscription_cycle",
        currency=sub["currency"],
        invoice_lines=made,
        subscription=sub,
        pending=proration.pending_for(world, sub["customer"], sub["id"]),
        period=ended,
        discount_ids=sub["discounts"],
        auto_advance=_collects(sub),
    )
    sub["latest_invoice"] = invoice["id"]
    return invoice


def _collects(sub: Json) -> bool:
    pause = sub["pause_collection"]
    return sub["status"] != "unpaid" and not (pause and pause["behavior"] == "keep_as_draft")


def _collect_renewal(world: "World", sub: Json) -> None:
    invoice = world.get("invoice", sub["latest_invoice"])
    wait = world.behaviour.draft_seconds
    if invoice["auto_advance"]:
        invoice["automatically_finalizes_at"] = world.now() + wait
        invoice["next_payment_attempt"] = world.now() + wait
    world.emit("invoice.created", invoice)
    if invoice["auto_advance"] and wait == 0:
        collection.open_and_collect(world, invoice)


def _usage_lines(world: "World", sub: Json, item: Json) -> list[Json]:
    """Metered usage is billed when its period is over."""
    price = world.get("price", item["price"])
    if price["recurring"]["usage_type"] != "metered":
        return []
    start, end = item["current_period_start"], item["current_period_end"]
    used = usage(world, price, sub["customer"], start, end)
    line = lines.for_item(world, sub, item, start=start, end=end, amount=amounts.total(price, used))
    line.update(quantity=used, quantity_decimal=str(used))
    return [line]


def usage(world: "World", price: Json, customer: str, start: int, end: int) -> int:
    meter = world.find("billing.meter", price["recurring"]["meter"])
    if meter is None:
        return 0
    values = [value for moment, value in meter["_usage"].get(customer, []) if start <= moment < end]
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return len(values)
    if formula == "last":
        return int(values[-1]) if values else 0
    return int(sum(values))


def _trial_ends_without_method(world: "World", sub: Json) -> bool:
    """True if the trial's end was dealt with: no way to pay, and the plan says what then."""
    customer = world.get("customer", sub["customer"])
    then = sub["trial_settings"]["end_behavior"]["missing_payment_method"]
    if then == "create_invoice" or methods.default_for(world, customer, sub):
        return False
    world.edit(sub)
    if then == "cancel":
        collection.end(world, sub, reason="cancellation_requested")
        return True
    before = world.public(sub)
    pause(world, sub, why="trial_end_without_payment_method")
    world.emit("customer.subscription.updated", sub, before=before)
    world.emit("customer.subscription.paused", sub)
    return True


def pause(world: "World", sub: Json, *, why: str) -> None:
    world.edit(sub)["status"] = "paused"
    sub["status_details"] = {
        "paused": {
            "subscription": {"type": why},
            "transitioned_at": world.now(),
            "type": "subscription",
        }
    }


def resume(world: "World", sub: Json, *, anchor: str, prorate: bool, on_success: bool) -> None:
    """Back from `paused`: a new period from now (or the old rhythm), billed at once."""
    before = world.public(sub)
    now = world.now()
    if anchor == "now":
        sub["billing_cycle_anchor"] = now
    for item in sub["items"]:
        items.set_period(world, sub, item, now)
    made = items.full_lines(world, sub, sub["items"])
    if anchor == "unchanged":
        made = []
        if prorate:
            for item in sub["items"]:
                proration.charge(world, sub, item, now)
    invoice = invoices.draft(
        world,
        world.get("customer", sub["customer"]),
        reason="subscription_update",
        currency=sub["currency"],
        invoice_lines=made,
        subscription=sub,
        pending=proration.pending_for(world, sub["customer"], sub["id"]),
        discount_ids=sub["discounts"],
    )
    sub["latest_invoice"] = invoice["id"]
    world.emit("invoice.created", invoice)
    if on_success:
        sub["_resume_invoice"] = invoice["id"]
    else:
        _resumed(sub)
    collection.open_and_collect(world, invoice)
    if sub["status"] != "paused":
        world.emit("customer.subscription.resumed", sub)
    world.emit("customer.subscription.updated", sub, before=before)


def _resumed(sub: Json) -> None:
    sub.update(status="active", status_details=None, _resume_invoice=None)


def _resume_when_paid(world: "World", sub: Json, invoice: Json) -> bool:
    if sub["status"] != "paused" or sub.get("_resume_invoice") != invoice["id"]:
        return False
    _resumed(world.edit(sub))
    return True


collection.WAITING_FOR_PAYMENT.append(_resume_when_paid)

_ACTIONS = {
    "announce": _announce,
    "collect_again": _collect_again,
    "drop_change": changes.expire_pending,
    "end": _end,
    "expire": _expire,
    "renew": _renew,
    "trial_notice": _trial_notice,
}

timers.register("subscription", _due, _fire, rank=1)

"""Starting and ending subscriptions."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import (
    amounts,
    collection,
    discounts,
    invoices,
    items,
    lines,
    methods,
    payments,
    proration,
)
from sandbox.stripe.errors import CardDeclined, InvalidRequest
from sandbox.stripe.metadata import merged
from sandbox.stripe.periods import shifted

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

DAY = 86_400
MAX_TRIAL_DAYS = 730

# The order in which the events of a new subscription usually arrive.
CREATION_ORDER = (
    "customer.created",
    "charge.succeeded",
    "charge.failed",
    "charge.pending",
    "payment_method.attached",
    "customer.updated",
    "customer.discount.created",
    "customer.subscription.created",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.requires_action",
    "payment_intent.created",
    "checkout.session.completed",
    "invoice.created",
    "invoice.finalized",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
    "customer.subscription.updated",
)


def start(
    world: "World",
    customer: Json,
    params: Json,
    *,
    method: Json | None = None,
    passed: bool = False,
    told_incomplete: bool = False,
) -> Json:
    """Begin a subscription from the parameters of `POST /v1/subscriptions`.

    `method` pays the first invoice although it is not the default; `passed`: its holder has just
    passed 3-D Secure. `told_incomplete`: the `created` event says `incomplete` even if the payment
    succeeds at once, as checkout did before basil.
    """
    world.follow(customer)
    with world.events_in_order(CREATION_ORDER):
        sub = _build(world, customer, params)
        invoice = _first_invoice(world, customer, sub)
        if told_incomplete and invoice["amount_due"] > 0:
            _tell(world, sub)
        _collect_first(world, customer, sub, invoice, params, method, passed)
        _tell(world, sub)
        _set_currency(world, customer, sub["currency"])
    return sub


def _tell(world: "World", sub: Json) -> None:
    if sub.pop("_unborn", None):
        world.emit("customer.subscription.created", sub)


def _build(world: "World", customer: Json, params: Json) -> Json:
    now = world.now()
    sub = world.new("subscription", items=[], customer=customer["id"], _unborn=True)
    world.state.reindex(sub)
    flexible = (params.get("billing_mode") or {}).get("type", "flexible") == "flexible"
    if not flexible:
        sub["billing_mode"] = {"flexible": None, "type": "classic"}
    for index, wanted in enumerate(params.get("items") or []):
        price = items.priced(world, wanted, f"items[{index}]")
        item = items.new_item(world, sub["id"], price, wanted)
        item["discounts"] = discounts.take_on(
            world, wanted.get("discounts") or [], customer=customer["id"],
            subscription=sub["id"], item=item["id"], param=f"items[{index}][discounts]",
        )  # fmt: skip
        sub["items"].append(item)
    trial_end = _trial_end(world, sub, params, now)
    sub.update(
        billing_cycle_anchor=trial_end or params.get("billing_cycle_anchor") or now,
        collection_method=params.get("collection_method", "charge_automatically"),
        created=now,
        currency=items.check_together(world, sub["items"], flexible=flexible),
        days_until_due=params.get("days_until_due"),
        description=params.get("description"),
        metadata=merged(None, params),
        start_date=now,
        status="trialing" if trial_end else "incomplete",
        test_clock=customer["test_clock"],
        trial_start=now if trial_end else None,
        trial_end=trial_end,
    )
    _settings(world, sub, params, customer)
    _first_periods(world, sub, now)
    _planned_end(sub, params)
    return sub


def _settings(world: "World", sub: Json, params: Json, customer: Json) -> None:
    if sub["collection_method"] == "send_invoice" and sub["days_until_due"] is None:
        raise InvalidRequest(
            "Missing required param: days_until_due.", code="parameter_missing",
            param="days_until_due",
        )  # fmt: skip
    if params.get("automatic_tax"):
        sub["automatic_tax"] = {
            **sub["automatic_tax"],
            "enabled": params["automatic_tax"]["enabled"],
        }
    if params.get("trial_settings"):
        sub["trial_settings"] = params["trial_settings"]
    if params.get("payment_settings"):
        sub["payment_settings"] = {**sub["payment_settings"], **params["payment_settings"]}
    if params.get("default_payment_method"):
        method = methods.resolve(world, params["default_payment_method"], "default_payment_method")
        sub["default_payment_method"] = methods.attach(world, method, customer)["id"]
    sub["discounts"] = discounts.take_on(
        world, params.get("discounts") or [], customer=customer["id"], subscription=sub["id"]
    )


def _trial_end(world: "World", sub: Json, params: Json, now: int) -> int | None:
    days = params.get("trial_period_days")
    if days is not None and params.get("trial_end") is not None:
        raise InvalidRequest(
            "You cannot pass both `trial_end` and `trial_period_days`.", param="trial_period_days"
        )
    if params.get("trial_end") not in (None, "now"):
        if params["trial_end"] <= now:
            raise InvalidRequest(
                "Invalid timestamp: must be an integer Unix timestamp in the future.",
                param="trial_end",
            )
        trial_end: int = params["trial_end"]
        return trial_end
    if params.get("trial_from_plan") and days is None:
        price = world.get("price", sub["items"][0]["price"])
        days = price["recurring"]["trial_period_days"]
    if days and days > MAX_TRIAL_DAYS:
        raise InvalidRequest("The maximum number of trial period days is 730 (2 years).",
                             param="trial_period_days")  # fmt: skip
    return now + days * DAY if days else None


def _first_periods(world: "World", sub: Json, now: int) -> None:
    anchor = sub["billing_cycle_anchor"]
    for item in sub["items"]:
        if sub["status"] == "trialing" or anchor > now:
            item["current_period_start"], item["current_period_end"] = now, anchor
        else:
            items.set_period(world, sub, item, now)


def _planned_end(sub: Json, params: Json) -> None:
    if params.get("cancel_at_period_end"):
        plan_end(sub, at_period_end=True, now=sub["created"])
    elif params.get("cancel_at"):
        plan_end(sub, at=resolve_end(sub, params["cancel_at"]), now=sub["created"])


def resolve_end(sub: Json, wanted: Any) -> int:
    ends = [item["current_period_end"] for item in sub["items"]]
    named = {"min_period_end": min(ends), "max_period_end": max(ends)}
    moment: int = named.get(wanted, wanted)
    return moment


def plan_end(sub: Json, *, now: int, at_period_end: bool = False, at: int | None = None) -> None:
    """Set, move or (with neither) clear a planned cancellation."""
    sub["cancel_at_period_end"] = at_period_end
    sub["cancel_at"] = resolve_end(sub, "max_period_end") if at_period_end else at
    sub["canceled_at"] = now if at_period_end or at else None
    sub["cancellation_details"] = {
        **sub["cancellation_details"],
        "reason": "cancellation_requested" if at_period_end or at else None,
    }


def _first_invoice(world: "World", customer: Json, sub: Json) -> Json:
    if sub["status"] == "trialing":
        made = [lines.for_trial(world, sub, item) for item in sub["items"]]
    elif sub["billing_cycle_anchor"] > world.now():
        made = [_stub_line(world, sub, item) for item in sub["items"]]
    else:
        made = items.full_lines(world, sub, sub["items"])
    invoice = invoices.draft(
        world,
        customer,
        reason="subscription_create",
        currency=sub["currency"],
        invoice_lines=made,
        subscription=sub,
        discount_ids=sub["discounts"],
    )
    sub["latest_invoice"] = invoice["id"]
    world.emit("invoice.created", invoice)
    return invoice


def _stub_line(world: "World", sub: Json, item: Json) -> Json:
    """The part of a period before a future anchor."""
    interval, count = items.cycle(world, item)
    end = item["current_period_end"]
    start = shifted(end, interval, -count)
    price = world.get("price", item["price"])
    full = amounts.total(price, item.get("quantity") or 0)
    now = item["current_period_start"]
    part = amounts.share(full, start, end, now)
    return lines.for_item(world, sub, item, start=now, end=end, amount=part)


def _collect_first(
    world: "World",
    customer: Json,
    sub: Json,
    invoice: Json,
    params: Json,
    method: Json | None,
    passed: bool,
) -> None:
    """Take the first payment as `payment_behavior` says; sets the status."""
    behaviour = params.get("payment_behavior", "allow_incomplete")
    invoices.finalize(world, invoice)
    if sub["status"] == "trialing" or invoice["amount_due"] == 0:
        if sub["status"] != "trialing":
            sub["status"] = "active"
        invoices.mark_paid(world, invoice)
        return
    if sub["collection_method"] == "send_invoice":
        sub["status"] = "active"
        return
    if behaviour == "default_incomplete":
        return
    paying = method or methods.default_for(world, customer, sub)
    if paying is None:
        raise InvalidRequest(collection.NO_METHOD, code="resource_missing")
    outcome = collection.charge(world, invoice, method=paying, passed=passed)
    if behaviour == "error_if_incomplete" and outcome.kind in (payments.DECLINED, payments.ACTION):
        raise refusal(outcome)


def refusal(outcome: payments.Outcome) -> CardDeclined:
    """For `error_if_incomplete`: as if it had never been asked for."""
    if outcome.kind == payments.ACTION:
        error = CardDeclined(
            "Your card was declined. This transaction requires authentication.",
            code="subscription_payment_intent_requires_action",
        )
    else:
        error = methods.declined(outcome.decline_code)
    error.keeps_changes = False
    return error


def _set_currency(world: "World", customer: Json, currency: str) -> None:
    if customer["currency"] is None:
        before = world.public(customer)
        world.edit(customer)["currency"] = currency
        world.emit("customer.updated", customer, before=before)


def cancel(world: "World", sub: Json, params: Json) -> None:
    """`DELETE /v1/subscriptions/{id}`: ends now."""
    if sub["status"] in ("canceled", "incomplete_expired"):
        raise InvalidRequest(f"No such subscription: '{sub['id']}'", code="resource_missing",
                             param="id")  # fmt: skip
    world.edit(sub)
    now = world.now()
    details = params.get("cancellation_details") or {}
    sub["cancellation_details"] = {**sub["cancellation_details"], **details}
    if params.get("prorate") and sub["status"] != "trialing":
        for item in sub["items"]:
            proration.credit(world, sub, item, now)
    elif not params.get("invoice_now"):
        proration.drop_pending(world, sub)
    if params.get("invoice_now"):
        final_invoice(world, sub)
    sub["canceled_at"] = now
    status = "incomplete_expired" if sub["status"] == "incomplete" else "canceled"
    collection.end(world, sub, reason="cancellation_requested", status=status)


def final_invoice(world: "World", sub: Json) -> None:
    waiting = proration.pending_for(world, sub["customer"], sub["id"])
    if not waiting:
        return
    invoice = invoices.draft(
        world,
        world.get("customer", sub["customer"]),
        reason="manual",
        currency=sub["currency"],
        invoice_lines=[],
        subscription=sub,
        pending=waiting,
    )
    sub["latest_invoice"] = invoice["id"]
    world.emit("invoice.created", invoice)
    collection.open_and_collect(world, invoice)

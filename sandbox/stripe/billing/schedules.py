"""Subscription schedules: phases that a subscription goes through, each with items of its own."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe import timers
from sandbox.stripe.billing import changes, collection, items, subscriptions
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.metadata import merged
from sandbox.stripe.periods import shifted

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

DEFAULTS: Json = {
    "application_fee_percent": None,
    "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
    "billing_cycle_anchor": "automatic",
    "billing_thresholds": None,
    "collection_method": "charge_automatically",
    "default_payment_method": None,
    "description": None,
    "invoice_settings": {
        "account_tax_ids": None, "custom_fields": None, "days_until_due": None,
        "description": None, "footer": None, "issuer": {"type": "self"},
    },
    "on_behalf_of": None,
    "transfer_data": None,
}  # fmt: skip


def create(world: "World", params: Json) -> Json:
    if params.get("from_subscription"):
        return _from_subscription(world, params)
    customer = world.get("customer", params.get("customer") or "", param="customer")
    world.follow(customer)
    wanted_start = params.get("start_date", "now")
    start = world.now() if wanted_start == "now" else wanted_start
    schedule = world.new(
        "subscription_schedule",
        customer=customer["id"],
        default_settings=DEFAULTS,
        end_behavior=params.get("end_behavior", "release"),
        metadata=merged(None, params),
        phases=_phases(world, params.get("phases") or [], start),
        status="not_started",
        test_clock=customer["test_clock"],
    )
    world.state.reindex(schedule)
    world.emit("subscription_schedule.created", schedule)
    if start <= world.now():
        _begin(world, schedule)
    return schedule


def _from_subscription(world: "World", params: Json) -> Json:
    sub = world.get("subscription", params["from_subscription"], param="from_subscription")
    world.follow(world.get("customer", sub["customer"]))
    if sub["schedule"]:
        raise InvalidRequest(
            "You cannot migrate a subscription that is already attached to a schedule: "
            f"`{sub['schedule']}`."
        )
    if sub["status"] not in collection.LIVE:
        raise InvalidRequest(f"You cannot migrate a subscription that is {sub['status']}.")
    start = min(item["current_period_start"] for item in sub["items"])
    end = max(item["current_period_end"] for item in sub["items"])
    wanted = [{"price": i["price"], "quantity": i.get("quantity")} for i in sub["items"]]
    schedule = world.new(
        "subscription_schedule",
        current_phase={"end_date": end, "start_date": start},
        customer=sub["customer"],
        default_settings=DEFAULTS,
        end_behavior=params.get("end_behavior", "release"),
        metadata=merged(None, params),
        phases=[_phase(world, {"items": wanted, "end_date": end}, start)],
        status="active",
        subscription=sub["id"],
        test_clock=sub["test_clock"],
    )
    world.state.reindex(schedule)
    before = world.public(sub)
    world.edit(sub)["schedule"] = schedule["id"]
    world.emit("subscription_schedule.created", schedule)
    world.emit("customer.subscription.updated", sub, before=before)
    return schedule


def update(world: "World", schedule: Json, params: Json) -> None:
    if schedule["status"] not in ("not_started", "active"):
        raise InvalidRequest(
            f"You cannot update a subscription schedule that is currently in the "
            f"`{schedule['status']}` status. You can only update a subscription schedule that has "
            "one of the following statuses: `not_started`, `active`."
        )
    before = world.public(schedule)
    world.edit(schedule)
    schedule["end_behavior"] = params.get("end_behavior", schedule["end_behavior"])
    schedule["metadata"] = merged(schedule["metadata"], params)
    if params.get("phases"):
        _replace_phases(world, schedule, params)
    world.emit("subscription_schedule.updated", schedule, before=before)


def _replace_phases(world: "World", schedule: Json, params: Json) -> None:
    first = params["phases"][0].get("start_date")
    start = schedule["phases"][0]["start_date"]
    if schedule["status"] == "not_started" and isinstance(first, int):
        start = first
    if schedule["status"] == "active" and first not in (None, "now", start):
        raise InvalidRequest(
            "You can not modify the start date of the current phase. You can only modify the end "
            "date of the current phase.",
            param="phases[0][start_date]",
        )
    schedule["phases"] = _phases(world, params["phases"], start)
    if schedule["status"] != "active":
        return
    now = world.now()
    current = next((p for p in schedule["phases"] if p["start_date"] <= now < p["end_date"]), None)
    if current is None:
        raise InvalidRequest("The subscription schedule must have a phase for now.", param="phases")
    _enter(world, schedule, current, params.get("proration_behavior"))


def _phases(world: "World", wanted: list[Json], start: int) -> list[Json]:
    if not wanted:
        raise InvalidRequest("Missing required param: phases.", code="parameter_missing",
                             param="phases")  # fmt: skip
    made: list[Json] = []
    for index, entry in enumerate(wanted):
        given = entry.get("start_date")
        begins = given if isinstance(given, int) and index else start
        made.append(_phase(world, entry, begins, f"phases[{index}]"))
        start = made[-1]["end_date"]
    return made


def _phase(world: "World", entry: Json, start: int, where: str = "phases[0]") -> Json:
    held = []
    for index, item in enumerate(entry["items"]):
        price = items.priced(world, item, f"{where}[items][{index}]")
        held.append(
            {
                "billing_thresholds": None,
                "discounts": [],
                "metadata": item.get("metadata") or {},
                "plan": price["id"],
                "price": price["id"],
                "quantity": item.get("quantity") or 1,
                "tax_rates": [],
            }
        )
    end = entry.get("end_date")
    if end == "now":
        end = world.now()
    if end is None:
        every = world.get("price", held[0]["price"])["recurring"]
        length = entry.get("duration") or every
        count = length.get("interval_count") or 1
        end = shifted(start, length["interval"], count * (entry.get("iterations") or 1))
    return {
        "add_invoice_items": [], "application_fee_percent": None, "billing_cycle_anchor": None,
        "billing_thresholds": None, "collection_method": None, "currency":
        world.get("price", held[0]["price"])["currency"], "default_payment_method": None,
        "default_tax_rates": [], "description": entry.get("description"), "discounts": [],
        "end_date": end, "invoice_settings": None, "items": held,
        "metadata": entry.get("metadata") or {}, "on_behalf_of": None,
        "proration_behavior": entry.get("proration_behavior", "create_prorations"),
        "start_date": start, "transfer_data": None, "trial_end": entry.get("trial_end"),
    }  # fmt: skip


# --- moving on


def _begin(world: "World", schedule: Json) -> None:
    """The first phase starts: the subscription comes to be."""
    phase = schedule["phases"][0]
    wanted = [{"price": i["price"], "quantity": i["quantity"]} for i in phase["items"]]
    before = world.public(schedule)
    sub = subscriptions.start(
        world,
        world.get("customer", schedule["customer"]),
        {"items": wanted, "metadata": phase["metadata"], "payment_behavior": "allow_incomplete"},
    )
    sub["schedule"] = schedule["id"]
    world.edit(schedule).update(
        status="active",
        subscription=sub["id"],
        current_phase={"end_date": phase["end_date"], "start_date": phase["start_date"]},
    )
    world.emit("subscription_schedule.updated", schedule, before=before)


def _enter(world: "World", schedule: Json, phase: Json, proration: str | None = None) -> None:
    sub = world.get("subscription", schedule["subscription"])
    schedule["current_phase"] = {
        "end_date": phase["end_date"],
        "start_date": phase["start_date"],
    }
    held = sub["items"]
    wanted: list[Json] = []
    for index, item in enumerate(phase["items"]):
        entry: Json = {"price": item["price"], "quantity": item["quantity"]}
        if index < len(held):
            entry["id"] = held[index]["id"]
        wanted.append(entry)
    wanted += [{"id": item["id"], "deleted": True} for item in held[len(wanted) :]]
    before = world.public(sub)
    world.edit(sub)
    with world.events_in_order(changes.CHANGE_ORDER):
        changes.change(
            world,
            sub,
            wanted=wanted,
            proration_behavior=proration or phase["proration_behavior"],
        )
        if phase["metadata"]:
            sub["metadata"] = {**sub["metadata"], **phase["metadata"]}
        world.emit("customer.subscription.updated", sub, before=before)


def release(world: "World", schedule: Json) -> None:
    _only_unfinished(schedule, "release")
    sub = world.find("subscription", schedule["subscription"])
    world.edit(schedule).update(
        current_phase=None,
        released_at=world.now(),
        released_subscription=schedule["subscription"],
        status="released",
        subscription=None,
    )
    world.emit("subscription_schedule.released", schedule)
    _let_go(world, sub)


def cancel(world: "World", schedule: Json, params: Json) -> None:
    _only_unfinished(schedule, "cancel")
    world.edit(schedule).update(canceled_at=world.now(), current_phase=None, status="canceled")
    world.emit("subscription_schedule.canceled", schedule)
    sub = world.find("subscription", schedule["subscription"])
    if sub and sub["status"] in collection.LIVE:
        _let_go(world, sub)
        subscriptions.cancel(world, sub, params)


def _only_unfinished(schedule: Json, verb: str) -> None:
    if schedule["status"] not in ("not_started", "active"):
        raise InvalidRequest(
            f"You cannot {verb} a subscription schedule that is currently in the "
            f"`{schedule['status']}` status."
        )


def _let_go(world: "World", sub: Json | None) -> None:
    if sub and sub["schedule"]:
        before = world.public(sub)
        world.edit(sub)["schedule"] = None
        if sub["status"] not in ("canceled", "incomplete_expired"):
            world.emit("customer.subscription.updated", sub, before=before)


def _subscription_ended(world: "World", sub: Json) -> None:
    schedule = world.find("subscription_schedule", sub["schedule"])
    if schedule is None or schedule["status"] != "active":
        return
    late = sub["cancellation_details"]["reason"] == "payment_failed"
    world.edit(schedule).update(canceled_at=world.now(), current_phase=None, status="canceled")
    event = "aborted" if late else "canceled"
    world.emit(f"subscription_schedule.{event}", schedule)


def _due(world: "World", schedule: Json) -> int | None:
    if schedule["status"] == "not_started":
        begins: int = schedule["phases"][0]["start_date"]
        return begins
    if schedule["status"] == "active" and schedule["current_phase"]:
        ends: int = schedule["current_phase"]["end_date"]
        return ends
    return None


def _fire(world: "World", schedule: Json) -> None:
    if schedule["status"] == "not_started":
        _begin(world, schedule)
        return
    ended = schedule["current_phase"]["end_date"]
    following = next((p for p in schedule["phases"] if p["start_date"] >= ended), None)
    if following:
        before = world.public(schedule)
        _enter(world, world.edit(schedule), following)
        world.emit("subscription_schedule.updated", schedule, before=before)
        return
    if schedule["end_behavior"] == "release":
        release(world, schedule)
        return
    sub = world.get("subscription", schedule["subscription"])
    world.edit(schedule).update(completed_at=world.now(), current_phase=None, status="completed")
    world.emit("subscription_schedule.completed", schedule)
    collection.end(world, world.edit(sub), reason="cancellation_requested")


collection.TOLD_OF_END.append(_subscription_ended)
timers.register("subscription_schedule", _due, _fire, rank=0)

"""Billing meters and the usage reported to them."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.paging import list_page, page
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route
from sandbox.stripe.shapes import blank

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

MAX_AGE = 35 * 86_400


@route("POST", "/v1/billing/meters", "billing.MeterCreateParams")
def create(world: "World", params: Json) -> Json:
    if _by_name(world, params["event_name"]):
        raise InvalidRequest(
            f"An active meter with the event name {params['event_name']} already exists.",
            param="event_name",
        )
    mapping = params.get("customer_mapping") or {
        "event_payload_key": "stripe_customer_id", "type": "by_id",
    }  # fmt: skip
    meter = world.new(
        "billing.meter",
        customer_mapping=mapping,
        default_aggregation=params["default_aggregation"],
        display_name=params["display_name"],
        event_name=params["event_name"],
        event_time_window=params.get("event_time_window"),
        updated=world.now(),
        value_settings=params.get("value_settings") or {"event_payload_key": "value"},
        _usage={},
        _seen=[],
    )
    world.emit("billing.meter.created", meter)
    return render(world, meter)


def _by_name(world: "World", name: str) -> Json | None:
    for key in world.state.of_kind("billing.meter"):
        meter = world.state.objects[key]
        if meter["event_name"] == name and meter["status"] == "active":
            return meter
    return None


@route("GET", "/v1/billing/meters/{id}", "billing.MeterRetrieveParams")
def retrieve(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("billing.meter", id, noun="billing meter"))


@route("GET", "/v1/billing/meters", "billing.MeterListParams")
def list_all(world: "World", params: Json) -> Json:
    return page(world, "billing.meter", params, "/v1/billing/meters",
                wanted=lambda m: params.get("status") in (None, m["status"]))  # fmt: skip


@route("POST", "/v1/billing/meters/{id}", "billing.MeterUpdateParams")
def update(world: "World", params: Json, id: str) -> Json:
    meter = world.get("billing.meter", id, noun="billing meter")
    before = world.public(meter)
    world.edit(meter).update(display_name=params.get("display_name", meter["display_name"]))
    world.emit("billing.meter.updated", meter, before=before)
    return render(world, meter)


def _switch(world: "World", id: str, status: str) -> Json:
    meter = world.edit(world.get("billing.meter", id, noun="billing meter"))
    ended = world.now() if status == "inactive" else None
    meter.update(status=status, status_transitions={"deactivated_at": ended})
    event = "deactivated" if status == "inactive" else "reactivated"
    world.emit(f"billing.meter.{event}", meter)
    return render(world, meter)


@route("POST", "/v1/billing/meters/{id}/deactivate", "billing.MeterDeactivateParams")
def deactivate(world: "World", params: Json, id: str) -> Json:
    return _switch(world, id, "inactive")


@route("POST", "/v1/billing/meters/{id}/reactivate", "billing.MeterReactivateParams")
def reactivate(world: "World", params: Json, id: str) -> Json:
    return _switch(world, id, "active")


@route("POST", "/v1/billing/meter_events", "billing.MeterEventCreateParams")
def report(world: "World", params: Json) -> Json:
    """Usage of a customer. An identifier counts once; reports may be 35 days late."""
    meter = _by_name(world, params["event_name"])
    if meter is None:
        raise InvalidRequest(
            f"No active meter found for event name: {params['event_name']}",
            code="no_meter",
            param="event_name",
        )
    customer = params["payload"].get(meter["customer_mapping"]["event_payload_key"])
    if not customer or world.find("customer", customer) is None:
        raise InvalidRequest(
            "Unable to retrieve the customer ID from the event payload.",
            code="customer_not_found",
            param="payload",
        )
    world.follow(world.get("customer", customer))
    moment = params.get("timestamp", world.now())
    if not world.now() - MAX_AGE <= moment <= world.now() + 300:
        raise InvalidRequest(
            "The timestamp must be within the past 35 calendar days, and up to 5 minutes in the "
            "future.",
            code="timestamp_too_far_in_past",
            param="timestamp",
        )
    value = params["payload"].get(meter["value_settings"]["event_payload_key"], "1")
    identifier = params.get("identifier") or world.ids.text(36)
    if identifier in meter["_seen"]:
        raise InvalidRequest(
            f"An event already exists with identifier {identifier}",
            code="duplicate_meter_event",
            param="identifier",
        )
    world.edit(meter)["_seen"].append(identifier)
    meter["_usage"].setdefault(customer, []).append([moment, float(value)])
    return {
        **blank("billing.meter_event"),
        "created": world.now(),
        "event_name": params["event_name"],
        "identifier": identifier,
        "payload": params["payload"],
        "timestamp": moment,
    }


@route("GET", "/v1/billing/meters/{id}/event_summaries", "billing.MeterEventSummaryListParams")
def summarize(world: "World", params: Json, id: str) -> Json:
    meter = world.get("billing.meter", id, noun="billing meter")
    start, end = params["start_time"], params["end_time"]
    reports = meter["_usage"].get(params["customer"], [])
    values = [value for moment, value in reports if start <= moment < end]
    if not values:
        return list_page([], params, f"/v1/billing/meters/{id}/event_summaries")
    formula = meter["default_aggregation"]["formula"]
    total = {"count": len(values), "last": values[-1]}.get(formula, sum(values))
    summary = {
        **blank("billing.meter_event_summary"),
        "aggregated_value": total,
        "end_time": end,
        "id": f"mtrusg_{id[-12:]}_{start}",
        "meter": id,
        "start_time": start,
    }
    return list_page([summary], params, f"/v1/billing/meters/{id}/event_summaries")

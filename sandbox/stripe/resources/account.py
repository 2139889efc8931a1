"""The account itself, its webhook endpoints, its events, and test clocks."""

import fnmatch
from itertools import islice
from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.events import KEPT_SECONDS, Event
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import limit_of, page, within
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route
from sandbox.stripe.shapes import blank, listing
from sandbox.stripe.versions import checked

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

ACCOUNT = "acct_1SandboxTesslate"
MAX_TYPES = 20


@route("GET", "/v1/account", "AccountRetrieveCurrentParams")
def retrieve_account(world: "World", params: Json) -> Json:
    return {
        **blank("account"),
        "id": ACCOUNT,
        "business_profile": {"name": "Tesslate sandbox", "support_email": None, "url": None},
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "controller": {"type": "account"},
        "country": "US",
        "created": 1_700_000_000,
        "default_currency": "usd",
        "email": "billing@tesslate.example",
        "metadata": {},
        "settings": {"dashboard": {"display_name": "Tesslate sandbox", "timezone": "Etc/UTC"}},
    }


@route("GET", "/v1/balance", "BalanceRetrieveParams")
def retrieve_balance(world: "World", params: Json) -> Json:
    sums = {"available": 0, "pending": 0}
    for key in world.state.of_kind("balance_transaction"):
        entry = world.state.objects[key]
        sums["available" if entry["available_on"] <= world.now() else "pending"] += entry["net"]
    return {
        "object": "balance",
        "livemode": False,
        **{
            name: [{"amount": total, "currency": "usd", "source_types": {"card": total}}]
            for name, total in sums.items()
        },
    }


# --- webhook endpoints


@route("POST", "/v1/webhook_endpoints", "WebhookEndpointCreateParams")
def create_endpoint(world: "World", params: Json) -> Json:
    endpoint = make_endpoint(
        world,
        url=params["url"],
        enabled_events=params["enabled_events"],
        api_version=params.get("api_version"),
        description=params.get("description"),
        metadata=merged(None, params),
    )
    # The secret is shown this once.
    return {**render(world, endpoint), "secret": endpoint["_secret"]}


def make_endpoint(world: "World", *, secret: str | None = None, **fields: Any) -> Json:
    if fields.get("api_version"):
        checked(fields["api_version"])
    return world.new("webhook_endpoint", _secret=secret or f"whsec_{world.ids.text(32)}", **fields)


@route("GET", "/v1/webhook_endpoints/{id}", "WebhookEndpointRetrieveParams")
def retrieve_endpoint(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("webhook_endpoint", id, noun="webhook endpoint"))


@route("POST", "/v1/webhook_endpoints/{id}", "WebhookEndpointUpdateParams")
def update_endpoint(world: "World", params: Json, id: str) -> Json:
    endpoint = world.edit(world.get("webhook_endpoint", id, noun="webhook endpoint"))
    for name in ("url", "enabled_events", "description"):
        if name in params:
            endpoint[name] = params[name]
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    endpoint["metadata"] = merged(endpoint["metadata"], params)
    return render(world, endpoint)


@route("DELETE", "/v1/webhook_endpoints/{id}")
def delete_endpoint(world: "World", params: Json, id: str) -> Json:
    world.state.remove(world.get("webhook_endpoint", id, noun="webhook endpoint"))
    return {"id": id, "object": "webhook_endpoint", "deleted": True}


@route("GET", "/v1/webhook_endpoints", "WebhookEndpointListParams")
def list_endpoints(world: "World", params: Json) -> Json:
    return page(world, "webhook_endpoint", params, "/v1/webhook_endpoints")


# --- events


@route("GET", "/v1/events/{id}", "EventRetrieveParams")
def retrieve_event(world: "World", params: Json, id: str) -> Json:
    event = world.log.find(id)
    if event is None or event.created < world.now() - KEPT_SECONDS:
        raise Missing.thing("event", id)
    return event.as_json()


@route("GET", "/v1/events", "EventListParams")
def list_events(world: "World", params: Json) -> Json:
    limit, oldest = limit_of(params), world.now() - KEPT_SECONDS
    fits = _event_filter(params)
    backwards = "ending_before" in params
    if backwards:
        cursor = _cursor(world, params, "ending_before")
        candidates = iter(world.log.after(cursor.seq))
    else:
        candidates = world.log.newest_first()
        if "starting_after" in params:
            seq = _cursor(world, params, "starting_after").seq
            candidates = world.log.before(seq)
    kept = (event for event in candidates if event.created >= oldest and fits(event))
    found = list(islice(kept, limit + 1))
    shown = found[:limit][::-1] if backwards else found[:limit]
    return listing([e.as_json() for e in shown], "/v1/events", has_more=len(found) > limit)


def _cursor(world: "World", params: Json, param: str) -> Event:
    event = world.log.find(params[param])
    if event is None:
        raise Missing.thing("event", params[param], param)
    return event


def _event_filter(params: Json) -> Any:
    types = params.get("types")
    if types is not None and "type" in params:
        raise InvalidRequest("You may only specify one of these parameters: type, types.")
    if types is not None and len(types) > MAX_TYPES:
        raise InvalidRequest(f"You can only pass up to {MAX_TYPES} types.", param="types")
    pattern = params.get("type", "*")
    delivered = params.get("delivery_success")

    def fits(event: Event) -> bool:
        return (
            (types is None or event.type in types)
            and fnmatch.fnmatchcase(event.type, pattern)
            and within(event.created, params.get("created"))
            and (delivered is None or delivered == (event.pending_webhooks == 0))
        )

    return fits


# --- test clocks


@route("POST", "/v1/test_helpers/test_clocks", "test_helpers.TestClockCreateParams")
def create_clock(world: "World", params: Json) -> Json:
    clock = world.new(
        "test_helpers.test_clock",
        frozen_time=params["frozen_time"],
        name=params.get("name"),
        deletes_after=world.now() + 30 * 86_400,
    )
    world.emit("test_helpers.test_clock.created", clock)
    return render(world, clock)


@route("GET", "/v1/test_helpers/test_clocks/{id}", "test_helpers.TestClockRetrieveParams")
def retrieve_clock(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("test_helpers.test_clock", id, noun="billing test clock"))


@route(
    "POST",
    "/v1/test_helpers/test_clocks/{id}/advance",
    "test_helpers.TestClockAdvanceParams",
    transaction=False,
)
def advance_clock(world: "World", params: Json, id: str) -> Json:
    """Everything on the clock happens before this answers, so `ready` is seen at once."""
    clock = world.get("test_helpers.test_clock", id, noun="billing test clock")
    if params["frozen_time"] <= clock["frozen_time"]:
        raise InvalidRequest(
            "Test clock can only be advanced to a time after its frozen time.",
            param="frozen_time",
        )
    with world.transaction():
        world.edit(clock)["status"] = "advancing"
        world.emit("test_helpers.test_clock.advancing", clock)
    world.run_due(params["frozen_time"], lane=id)
    with world.transaction():
        world.edit(clock).update(frozen_time=params["frozen_time"], status="ready")
        world.emit("test_helpers.test_clock.ready", clock)
    return render(world, clock)


@route("DELETE", "/v1/test_helpers/test_clocks/{id}")
def delete_clock(world: "World", params: Json, id: str) -> Json:
    clock = world.get("test_helpers.test_clock", id, noun="billing test clock")
    world.state.remove(clock)
    world.emit("test_helpers.test_clock.deleted", clock)
    return {"id": id, "object": "test_helpers.test_clock", "deleted": True}


@route("GET", "/v1/test_helpers/test_clocks", "test_helpers.TestClockListParams")
def list_clocks(world: "World", params: Json) -> Json:
    return page(world, "test_helpers.test_clock", params, "/v1/test_helpers/test_clocks")

"""Subscription schedules."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import schedules
from sandbox.stripe.paging import page
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


def _held(world: "World", id: str) -> Json:
    schedule = world.get("subscription_schedule", id)
    world.follow(world.get("customer", schedule["customer"]))
    return schedule


@route("POST", "/v1/subscription_schedules", "SubscriptionScheduleCreateParams")
def create(world: "World", params: Json) -> Json:
    return render(world, schedules.create(world, params))


@route("GET", "/v1/subscription_schedules/{id}", "SubscriptionScheduleRetrieveParams")
def retrieve(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("subscription_schedule", id))


@route("POST", "/v1/subscription_schedules/{id}", "SubscriptionScheduleUpdateParams")
def update(world: "World", params: Json, id: str) -> Json:
    schedule = _held(world, id)
    schedules.update(world, schedule, params)
    return render(world, schedule)


@route("POST", "/v1/subscription_schedules/{id}/release", "SubscriptionScheduleReleaseParams")
def release(world: "World", params: Json, id: str) -> Json:
    schedule = _held(world, id)
    schedules.release(world, schedule)
    return render(world, schedule)


@route("POST", "/v1/subscription_schedules/{id}/cancel", "SubscriptionScheduleCancelParams")
def cancel(world: "World", params: Json, id: str) -> Json:
    schedule = _held(world, id)
    schedules.cancel(world, schedule, params)
    return render(world, schedule)


@route("GET", "/v1/subscription_schedules", "SubscriptionScheduleListParams")
def list_all(world: "World", params: Json) -> Json:
    keys = None
    if "customer" in params:
        keys = world.state.where("subscription_schedule", "customer", params["customer"])
    return page(world, "subscription_schedule", params, "/v1/subscription_schedules", keys=keys)

"""Billing portal: configurations, and sessions that lead a customer to the portal page."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import customers as people
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.metadata import merged
from sandbox.stripe.paging import page
from sandbox.stripe.rendering import render
from sandbox.stripe.routing import route

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]

FEATURES: Json = {
    "customer_update": {"allowed_updates": ["email"], "enabled": True},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": False, "options": []},
        "enabled": True,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": ["price", "quantity", "promotion_code"],
        "enabled": True,
        "products": [],
        "proration_behavior": "always_invoice",
        "schedule_at_period_end": {"conditions": []},
        "trial_update_behavior": "end_trial",
    },
}


def _features(given: Json, base: Json) -> Json:
    return {name: {**part, **(given.get(name) or {})} for name, part in base.items()}


def make_configuration(world: "World", params: Json, *, default: bool = False) -> Json:
    off = {name: {**part, "enabled": False} for name, part in FEATURES.items()}
    configuration = world.new(
        "billing_portal.configuration",
        business_profile={"headline": None, "privacy_policy_url": None,
                          "terms_of_service_url": None, **(params.get("business_profile") or {})},
        default_return_url=params.get("default_return_url"),
        features=_features(params.get("features") or {}, FEATURES if default else off),
        is_default=default,
        metadata=merged(None, params),
        name=params.get("name"),
        updated=world.now(),
    )  # fmt: skip
    world.emit("billing_portal.configuration.created", configuration)
    return configuration


def default_configuration(world: "World") -> Json:
    for key in world.state.of_kind("billing_portal.configuration"):
        if world.state.objects[key]["is_default"]:
            return world.state.objects[key]
    return make_configuration(world, {}, default=True)


@route("POST", "/v1/billing_portal/configurations", "billing_portal.ConfigurationCreateParams")
def create_configuration(world: "World", params: Json) -> Json:
    return render(world, make_configuration(world, params))


@route(
    "GET", "/v1/billing_portal/configurations/{id}", "billing_portal.ConfigurationRetrieveParams"
)
def retrieve_configuration(world: "World", params: Json, id: str) -> Json:
    return render(world, world.get("billing_portal.configuration", id, noun="configuration"))


@route("POST", "/v1/billing_portal/configurations/{id}", "billing_portal.ConfigurationUpdateParams")
def update_configuration(world: "World", params: Json, id: str) -> Json:
    configuration = world.get("billing_portal.configuration", id, noun="configuration")
    before = world.public(configuration)
    world.edit(configuration)
    for name in ("active", "default_return_url", "name"):
        if name in params:
            configuration[name] = params[name]
    profile = params.get("business_profile") or {}
    configuration["business_profile"] = {**configuration["business_profile"], **profile}
    configuration["features"] = _features(params.get("features") or {}, configuration["features"])
    configuration["metadata"] = merged(configuration["metadata"], params)
    world.emit("billing_portal.configuration.updated", configuration, before=before)
    return render(world, configuration)


@route("GET", "/v1/billing_portal/configurations", "billing_portal.ConfigurationListParams")
def list_configurations(world: "World", params: Json) -> Json:
    def wanted(configuration: Json) -> bool:
        return params.get("active") in (None, configuration["active"]) and (
            params.get("is_default") in (None, configuration["is_default"])
        )

    url = "/v1/billing_portal/configurations"
    return page(world, "billing_portal.configuration", params, url, wanted=wanted)


@route("POST", "/v1/billing_portal/sessions", "billing_portal.SessionCreateParams")
def create_session(world: "World", params: Json) -> Json:
    customer = people.present(world, params.get("customer") or "")
    world.follow(customer)
    if params.get("configuration"):
        configuration = world.get(
            "billing_portal.configuration", params["configuration"], param="configuration"
        )
        if not configuration["active"]:
            raise InvalidRequest("The configuration is not active.", param="configuration")
    else:
        configuration = default_configuration(world)
    session = world.new(
        "billing_portal.session",
        configuration=configuration["id"],
        customer=customer["id"],
        flow=params.get("flow_data"),
        locale=params.get("locale"),
        return_url=params.get("return_url") or configuration["default_return_url"],
    )
    # The address, not the id, is the capability, as at Stripe.
    session["url"] = f"{world.base_url}/p/session/test_{session['id']}"
    world.emit("billing_portal.session.created", session)
    return render(world, session)

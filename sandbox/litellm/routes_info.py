"""Models, health and metrics."""

from typing import Any

import orjson

from sandbox.litellm import errors
from sandbox.litellm.catalogue import Model
from sandbox.litellm.requests import Answer, Request

# When LiteLLM says every model was made.
CREATED = 1677610602
UNAUTHORIZED_METRICS = (
    "Unauthorized access to metrics endpoint: Authentication Error, Malformed API Key passed in. "
    "Ensure Key has `Bearer ` prefix. To allow unauthenticated access, set "
    "`litellm_settings.require_auth_for_metrics_endpoint: false` in your proxy_config.yaml."
)


def callable_models(request: Request) -> list[Model]:
    catalogue = request.gateway.catalogue
    if request.view is None:
        return list(catalogue.models.values())
    return [catalogue.models[name] for name in request.view.models(catalogue)]


def models(request: Request) -> Any:
    rows = [_model_card(model) for model in callable_models(request)]
    return {"data": rows, "object": "list"}


def _model_card(model: Model) -> dict[str, Any]:
    card = {"id": model.name, "object": "model", "created": CREATED, "owned_by": "openai"}
    known = ("mode", "max_input_tokens", "max_output_tokens")
    return {**card, **{name: model.info[name] for name in known if name in model.info}}


def model(request: Request) -> Any:
    found = request.gateway.catalogue.models.get(request.name)
    if found is None:
        raise errors.error(404, f"Model {request.name} not found", "not_found_error", "model")
    return _model_card(found)


def model_info(request: Request) -> Any:
    return {"data": [_model_details(model) for model in callable_models(request)]}


def _model_details(model: Model) -> dict[str, Any]:
    prices = {
        "input_cost_per_token": model.input_cost,
        "output_cost_per_token": model.output_cost,
    }
    return {
        "model_name": model.name,
        "litellm_params": {**model.params, **prices},
        "model_info": {
            **model.info,
            **prices,
            "id": model.id,
            "db_model": False,
            "access_groups": list(model.groups) or None,
            "key": model.target,
            "litellm_provider": model.provider,
        },
    }


def alive(request: Request) -> Any:
    return "I'm alive!"


def ready(request: Request) -> Any:
    return {"status": "healthy", "db": "connected"}


def health(request: Request) -> Any:
    """At LiteLLM this calls every provider, for any key that may call it: never poll it."""
    deployments = [
        {"model": model.target, "model_id": model.id}
        for model in request.gateway.catalogue.models.values()
    ]
    return {
        "healthy_endpoints": deployments,
        "unhealthy_endpoints": [],
        "healthy_count": len(deployments),
        "unhealthy_count": 0,
    }


def metrics_redirect(request: Request) -> Any:
    return Answer(status=307, raw=b"", headers=[(b"location", b"/metrics/")])


def metrics(request: Request) -> Any:
    gateway = request.gateway
    lines = [
        "# TYPE litellm_in_flight_requests gauge",
        f"litellm_in_flight_requests {gateway.in_flight}",
    ]
    seen = ""
    for (name, labels), value in sorted(gateway.counted.items()):
        if name != seen:
            lines.append(f"# TYPE {name} counter")
            seen = name
        lines.append(f"{name}{{{labels}}} {value}")
    text = "\n".join(lines) + "\n"
    kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
    return Answer(raw=text.encode(), headers=[kind])


def metrics_refusal() -> errors.Refusal:
    refusal = errors.detail(401, "")
    refusal.body = orjson.dumps(UNAUTHORIZED_METRICS)
    return refusal

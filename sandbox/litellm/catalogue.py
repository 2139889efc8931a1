"""The models the gateway serves, read from its own configuration file."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# For a model without a price in the configuration: LiteLLM would ask its price map, which the
# stand-in does not have. Dollars per token, in the range of a small model.
DEFAULT_INPUT_COST = 0.000001
DEFAULT_OUTPUT_COST = 0.000002

# What LiteLLM shows of a deployment beside the parameters themselves; the key never.
HIDDEN_PARAMS = ("api_key",)


class CatalogueError(Exception):
    """The configuration cannot be read as LiteLLM's."""


@dataclass(frozen=True, slots=True)
class Model:
    """A deployment. `name` is what callers ask for, `target` what the provider calls it."""

    name: str
    id: str
    target: str
    provider: str
    input_cost: float
    output_cost: float
    groups: tuple[str, ...]
    params: dict[str, Any]
    info: dict[str, Any]

    def cost(self, prompt_tokens: int, completion_tokens: int) -> tuple[float, float]:
        """Dollars for the input and for the output."""
        return prompt_tokens * self.input_cost, completion_tokens * self.output_cost


@dataclass(frozen=True, slots=True)
class Catalogue:
    models: dict[str, Model] = field(default_factory=dict)
    # Names of the models in each access group.
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    metrics_need_a_key: bool = True


def read_catalogue(path: Path) -> Catalogue:
    """Raises CatalogueError."""
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CatalogueError(f"{path}: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_list"), list):
        raise CatalogueError(f"{path}: has no model_list")
    models: dict[str, Model] = {}
    members: dict[str, set[str]] = {}
    for entry in config["model_list"]:
        try:
            model = _model(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise CatalogueError(f"{path}: model {entry!r}: {error!r}") from None
        # Of several deployments of one model the first answers; its groups are everybody's.
        models.setdefault(model.name, model)
        for group in model.groups:
            members.setdefault(group, set()).add(model.name)
    settings = config.get("litellm_settings") or {}
    return Catalogue(
        models,
        {group: frozenset(names) for group, names in members.items()},
        settings.get("require_auth_for_metrics_endpoint", True),
    )


def _model(entry: dict[str, Any]) -> Model:
    params: dict[str, Any] = dict(entry["litellm_params"])
    info: dict[str, Any] = dict(entry.get("model_info") or {})
    target = str(params["model"])
    digest = hashlib.sha256(json.dumps([entry["model_name"], params], default=str).encode())
    prices = {**info, **params}
    return Model(
        name=str(entry["model_name"]),
        id=str(info.get("id") or digest.hexdigest()),
        target=target,
        provider=target.partition("/")[0],
        input_cost=float(prices.get("input_cost_per_token", DEFAULT_INPUT_COST)),
        output_cost=float(prices.get("output_cost_per_token", DEFAULT_OUTPUT_COST)),
        groups=tuple(info.get("access_groups") or ()),
        params={name: value for name, value in params.items() if name not in HIDDEN_PARAMS},
        info=info,
    )

"""What litellm.config.yaml serves, as far as plans have to agree with it."""

from pathlib import Path
from typing import Any

import yaml


class CannotRead(Exception):
    """The file is missing or is no LiteLLM configuration; the text says which."""


def model_names(path: Path) -> set[str]:
    """The public model names, without those that only stand in as fallbacks for others."""
    try:
        config = yaml.safe_load(path.read_text())
    except OSError:
        raise CannotRead(f"LITELLM_CONFIG_PATH: {path} cannot be read.") from None
    except yaml.YAMLError:
        raise CannotRead(f"LITELLM_CONFIG_PATH: {path} is not YAML.") from None
    models = config.get("model_list") if isinstance(config, dict) else None
    if not isinstance(models, list):
        raise CannotRead(f"LITELLM_CONFIG_PATH: {path} has no model_list.")
    names = {str(model.get("model_name")) for model in models if isinstance(model, dict)}
    return names - _only_fallbacks(config)


def _only_fallbacks(config: dict[str, Any]) -> set[str]:
    router = config.get("router_settings")
    litellm = config.get("litellm_settings")
    rules: list[Any] = []
    for section in (router, litellm):
        if isinstance(section, dict):
            for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
                rules += section.get(kind) or []
    sources = {name for rule in rules if isinstance(rule, dict) for name in rule}
    targets = {
        name
        for rule in rules
        if isinstance(rule, dict)
        for names in rule.values()
        for name in names
    }
    return targets - sources

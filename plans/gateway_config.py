"""What litellm.config.yaml serves, as far as plans have to agree with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


class CannotRead(Exception):
    """The file is missing or is no LiteLLM configuration; the text says which."""


def model_names(path: Path) -> set[str]:
    """The public model names, without those that only stand in as fallbacks for others."""
    config = _read(path)
    return {name for name, _ in _models(config)} - _only_fallbacks(config)


def model_providers(path: Path) -> dict[str, str]:
    """Public model name → the provider that serves it first, as LiteLLM calls it (``groq``)."""
    providers: dict[str, str] = {}
    for name, served in _models(_read(path)):
        provider, slash, _ = served.partition("/")
        providers.setdefault(name, provider if slash else "openai")
    return providers


def answer_seconds(path: Path) -> float | None:
    """How long the gateway gives an answer, seconds; None when the file leaves it to LiteLLM."""
    config = _read(path)
    for section, name in (("router_settings", "timeout"), ("litellm_settings", "request_timeout")):
        settings = config.get(section)
        value = settings.get(name) if isinstance(settings, dict) else None
        if isinstance(value, int | float):
            return float(value)
    return None


def _models(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for model in config["model_list"]:
        if isinstance(model, dict):
            parameters = model.get("litellm_params")
            served = parameters.get("model") if isinstance(parameters, dict) else ""
            yield str(model.get("model_name")), str(served)


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except OSError:
        raise CannotRead(f"LITELLM_CONFIG_PATH: {path} cannot be read.") from None
    except yaml.YAMLError:
        raise CannotRead(f"LITELLM_CONFIG_PATH: {path} is not YAML.") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_list"), list):
        raise CannotRead(f"LITELLM_CONFIG_PATH: {path} has no model_list.")
    return config


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

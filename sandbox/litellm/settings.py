"""The stand-in's settings, from the environment.

SANDBOX_LITELLM_PORT         where it listens
SANDBOX_LITELLM_MASTER_KEY   its admin key
SANDBOX_LITELLM_CONFIG       the gateway's configuration (litellm.config.yaml)
SANDBOX_LITELLM_DATA         folder for its state; without it, state ends with the process
SANDBOX_TOKENS_PER_SECOND    pace of each answer (0, the default: as fast as it can)
SANDBOX_LITELLM_CACHE_TTL    seconds that a second, imagined process goes on serving what it
                             remembers of a key (0, the default: there is no second process)
LITELLM_RATE_LIMIT_WINDOW_SIZE   seconds of a rate limit's window (60), as LiteLLM calls it
"""

import os
from dataclasses import dataclass
from pathlib import Path


class SettingsError(Exception):
    """A setting is missing or makes no sense; the text names the variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    master_key: str
    config: Path
    data: Path | None = None
    tokens_per_second: float = 0.0
    cache_ttl: float = 0.0
    window_seconds: int = 60


def from_environment() -> Settings:
    """Raises SettingsError."""
    data = os.environ.get("SANDBOX_LITELLM_DATA")
    return Settings(
        master_key=required("SANDBOX_LITELLM_MASTER_KEY"),
        config=Path(required("SANDBOX_LITELLM_CONFIG")),
        data=Path(data) if data else None,
        tokens_per_second=number("SANDBOX_TOKENS_PER_SECOND", 0),
        cache_ttl=number("SANDBOX_LITELLM_CACHE_TTL", 0),
        window_seconds=int(number("LITELLM_RATE_LIMIT_WINDOW_SIZE", 60)),
    )


def port_from_environment() -> int:
    """Raises SettingsError."""
    return int(number("SANDBOX_LITELLM_PORT", None))


def required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SettingsError(f"{name}: is not set")
    return value


def number(name: str, default: float | None) -> float:
    text = os.environ.get(name) if default is not None else required(name)
    if not text:
        return default or 0.0
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name}: {text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise SettingsError(f"{name}: {text!r} is not a number from 0 up")
    return value

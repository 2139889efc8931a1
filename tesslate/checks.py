"""Mistakes that only show when several settings are seen together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from plans.gateway_config import CannotRead, answer_seconds

# Of a master key; LiteLLM asks no less of the keys that customers get.
MASTER_KEY_LENGTH = 16
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
STAND_IN_SETTINGS = (
    "STRIPE_API_URL",
    "FIREBASE_AUTH_URL",
    "FIREBASE_TOKEN_URL",
    "FIREBASE_CERTS_URL",
)


def stand_ins_stay_local(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Money and identity must never come from a stand-in once real users are served."""
    if settings.DEBUG:
        return []
    return [
        Error(
            f"{name} points at this machine while DEBUG is off.",
            hint="A stand-in answers there. Remove the variable to use the real service.",
            id="tesslate.E001",
        )
        for name in STAND_IN_SETTINGS
        if urlsplit(getattr(settings, name)).hostname in LOOPBACK
    ]


def local_secrets_stay_local(
    app_configs: Sequence[Any] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Values published in this repository protect nothing."""
    if settings.DEBUG:
        return []
    published = {
        "SECRET_KEY": settings.SECRET_KEY.startswith("local-only"),
        # "local-only" in Base64. Only the key that encrypts: one behind it is being replaced.
        "ENCRYPTION_KEYS": "".join(settings.ENCRYPTION_KEYS[:1]).startswith("bG9jYWwtb25seS"),
        "LITELLM_MASTER_KEYS": "sk-local-master-key" in settings.LITELLM_MASTER_KEYS,
        "STRIPE_WEBHOOK_SECRETS": "whsec_local" in settings.STRIPE_WEBHOOK_SECRETS,
    }
    return [
        Error(f"{name} holds a published local value while DEBUG is off.", id="tesslate.E002")
        for name, is_published in published.items()
        if is_published
    ]


def gateway_gives_up_first(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """What we give up before the gateway does is worked on, and may be paid for, without us."""
    try:
        gateways = answer_seconds(Path(settings.LITELLM_CONFIG_PATH))
    except CannotRead:
        return []  # plans.W001 tells
    if gateways is None or gateways <= settings.CHAT_TIMEOUT_SECONDS:
        return []
    return [
        Warning(
            f"CHAT_TIMEOUT_SECONDS is {settings.CHAT_TIMEOUT_SECONDS}, but the gateway's own "
            f"timeout {gateways:g}.",
            hint="Raise it, or lower router_settings.timeout in the gateway's configuration.",
            id="tesslate.W001",
        )
    ]


def master_keys_are_strong(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """LiteLLM takes any value, but its manual asks for ``sk-``, and whoever guesses it owns all."""
    if all(
        key.startswith("sk-") and len(key) >= MASTER_KEY_LENGTH
        for key in settings.LITELLM_MASTER_KEYS
    ):
        return []
    return [
        Warning(
            "LITELLM_MASTER_KEYS holds one that does not begin with sk- or is shorter than "
            f"{MASTER_KEY_LENGTH} characters.",
            hint="docs/keys.md tells how to replace it.",
            id="tesslate.W002",
        )
    ]


def register_all() -> None:
    register(stand_ins_stay_local, Tags.security)
    register(local_secrets_stay_local, Tags.security)
    register(gateway_gives_up_first, Tags.security, deploy=True)
    register(master_keys_are_strong, Tags.security, deploy=True)

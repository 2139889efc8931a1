"""Mistakes that only show when several settings are seen together."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

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


def register_all() -> None:
    register(stand_ins_stay_local, Tags.security)
    register(local_secrets_stay_local, Tags.security)

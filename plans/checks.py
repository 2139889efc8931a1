"""Plans and the gateway's configuration must name the same models; secrets must be there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection

from plans.gateway_config import CannotRead, model_names


def signing_secret_is_set(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """An empty secret would let anybody sign events (CVE-2026-41432)."""
    if any(not secret.strip() for secret in settings.STRIPE_WEBHOOK_SECRETS) or not (
        settings.STRIPE_WEBHOOK_SECRETS
    ):
        return [Error("STRIPE_WEBHOOK_SECRETS holds a blank secret.", id="plans.E001")]
    return []


def signatures_expire(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Zero would accept a recorded event for ever."""
    if settings.STRIPE_WEBHOOK_TOLERANCE_SECONDS > 0:
        return []
    return [Error("STRIPE_WEBHOOK_TOLERANCE_SECONDS must be above zero.", id="plans.E002")]


def gateway_serves_plans(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Every model of a plan exists at the gateway (error); every model there is sold (warning).

    Looks into the database, so it runs with `check --database default` and `migrate` only.
    """
    if not databases:
        return []
    from plans.models import GatewayModel

    if GatewayModel._meta.db_table not in connection.introspection.table_names():
        return []  # the first `migrate`
    path = Path(settings.LITELLM_CONFIG_PATH)
    try:
        served = model_names(path)
    except CannotRead as error:
        return [Warning(str(error), id="plans.W001")]
    planned = set(
        GatewayModel.objects.filter(plans__archived_at=None, plans__isnull=False).values_list(
            "name", flat=True
        )
    )
    problems: list[CheckMessage] = [
        Error(f"Plans include {name!r}, which {path.name} does not serve.", id="plans.E003")
        for name in sorted(planned - served)
    ]
    if planned:
        problems += [
            Warning(f"{path.name} serves {name!r}, which no plan includes.", id="plans.W002")
            for name in sorted(served - planned)
        ]
    return problems


def register_all() -> None:
    register(signing_secret_is_set, Tags.security)
    register(signatures_expire, Tags.security)
    register(gateway_serves_plans, Tags.database)

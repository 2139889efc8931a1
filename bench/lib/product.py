"""The product's web process on throw-away engines, with one subscriber who may do anything."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.engines import Postgres, Valkey, running

MODEL = "basic-chat"


@dataclass(frozen=True, slots=True)
class Product:
    token: str
    environment: dict[str, str]


@contextlib.contextmanager
def product(gateway_url: str) -> Iterator[Product]:
    """Engines up, schema migrated, subscriber made; settings go to this process, too."""
    with tempfile.TemporaryDirectory(prefix="tesslate-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root PostgreSQL runs under another account
        postgres = Postgres(folder / "postgres", durable=False)
        valkey = Valkey(folder / "valkey", durable=False)
        with running(postgres, valkey):
            postgres.ensure_database("tesslate")
            environment = {
                "DEBUG": "true",
                "DATA_DIR": name,
                "DATABASE_URL": postgres.url("tesslate"),
                "REDIS_URL": valkey.url(),
                "LITELLM_URL": gateway_url,
                "DJANGO_SETTINGS_MODULE": "tesslate.settings",
                "LOG_LEVEL": "WARNING",
                # As in production: a user looked up once is not looked up again all the time.
                "CHAT_CACHE_SECONDS": "10",
            }
            os.environ.update(environment)
            yield Product(_subscriber(), environment)


def _subscriber() -> str:
    """Migrate, and make a user with a key and an API token; answers the token."""
    import django

    django.setup()

    from datetime import timedelta

    from django.core.management import call_command
    from django.db import connections
    from django.utils import timezone

    from accounts.models import ApiToken, User
    from accounts.tokens import create_token
    from llmkeys.provisioning import new_key
    from plans.models import CurrentEntitlement, GatewayModel, Plan
    from tesslate.lib.cause import Cause

    call_command("migrate", verbosity=0)
    model, _ = GatewayModel.objects.get_or_create(name=MODEL, defaults={"title": MODEL})
    plan = Plan.objects.create(
        code="bench",
        name="Bench",
        rank=9999,
        rpm=10**6,
        tpm=10**9,
        budget_cents=10**6,
        max_parallel_requests=10**6,
    )
    plan.gateway_models.add(model)
    user = User.objects.create_user("bench@example.com", firebase_uid="bench")
    now = timezone.now()
    CurrentEntitlement.objects.create(
        user=user,
        plan=plan,
        source=CurrentEntitlement.Source.DEFAULT,
        period_start=now,
        period_end=now + timedelta(days=30),
        decided_at=now,
    )
    cause = Cause.system("bench")
    key = new_key(user_id=user.pk, label="default", cause=cause)
    key.observed = {}
    key.save()
    _, value = create_token(
        user=user, name="bench", scopes=[ApiToken.Scope.CHAT], expires_at=None, cause=cause
    )
    connections.close_all()
    return value

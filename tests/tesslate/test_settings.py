"""A bad setting stops the start with one line that names it; settings that contradict each other
are found by `check`."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.checks import Tags, run_checks
from django.core.management import call_command

ROOT = Path(__file__).resolve().parents[2]
FERNET_KEY = "dGVzdHMtb25seS1ub3QtYS1zZWNyZXQtMDAwMDAwMDA="
PRODUCTION = {
    "SECRET_KEY": "x" * 50,
    "PUBLIC_URL": "https://app.example.com",
    "ALLOWED_HOSTS": "app.example.com",
    "DATABASE_URL": "postgresql://tesslate:password@postgres:5432/tesslate",
    "REDIS_URL": "redis://redis:6379/0",
    "ENCRYPTION_KEYS": FERNET_KEY,
    "LITELLM_URL": "http://litellm:4000",
    "LITELLM_MASTER_KEYS": "sk-0123456789abcdef",
    "STRIPE_SECRET_KEY": "sk_live_0123456789",
    "STRIPE_WEBHOOK_SECRETS": "whsec_0123456789",
    "FIREBASE_PROJECT_ID": "tesslate",
    "FIREBASE_API_KEY": "AIza0123456789",
}


@pytest.fixture
def environment(tmp_path) -> Iterator[MutableMapping[str, str]]:
    """Production's variables and none of this machine's; tests change them before loading."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with patch.dict(os.environ, {**kept, **PRODUCTION, "DATA_DIR": str(tmp_path)}, clear=True):
        yield os.environ


def load() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tesslate" / "settings.py"))


def refusal() -> str:
    with pytest.raises(SystemExit) as caught:
        load()
    return str(caught.value)


def test_production_settings_load(environment):
    settings = load()

    assert settings["DEBUG"] is False
    assert settings["STRIPE_LIVEMODE"] is True
    assert settings["SESSION_COOKIE_SECURE"] is settings["CSRF_COOKIE_SECURE"] is True
    assert settings["SECURE_HSTS_SECONDS"] > 0


@pytest.mark.parametrize("name", PRODUCTION)
@pytest.mark.parametrize("value", [None, "", "  "], ids=["missing", "empty", "blank"])
def test_missing_variable_stops_the_start_and_is_named(environment, name, value):
    environment.pop(name)
    if value is not None:
        environment[name] = value

    message = refusal()

    assert message.startswith(f"{name}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "perhaps"),
        ("PUBLIC_URL", "app.example.com"),
        ("PUBLIC_URL", "ftp://app.example.com"),
        ("ALLOWED_HOSTS", ","),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "sqlite:///db.sqlite3"),
        ("DATABASE_BEHIND_PGBOUNCER", "maybe"),
        ("REDIS_URL", "redis:6379"),
        ("REDIS_URL", "http://redis:6379"),
        ("REDIS_URL", "redis://redis:port/0"),
        ("ENCRYPTION_KEYS", "too-short"),
        ("ENCRYPTION_KEYS", FERNET_KEY + ",too-short"),
        ("LITELLM_URL", "litellm:4000"),
        ("LITELLM_URL", "http://litellm:port"),
        ("LITELLM_URL", "http://[::1"),
        ("LITELLM_MASTER_KEYS", " , "),
        ("LITELLM_TIMEOUT_SECONDS", "ten"),
        ("LITELLM_TIMEOUT_SECONDS", "0"),
        ("STRIPE_WEBHOOK_SECRETS", ","),
        ("STRIPE_WEBHOOK_TOLERANCE_SECONDS", "0"),
        ("STRIPE_WEBHOOK_TOLERANCE_SECONDS", "-5"),
        ("STRIPE_API_URL", "api.stripe.com"),
        ("FIREBASE_CERTS_URL", "here"),
        ("PROXY_COUNT", "-1"),
        ("CHAT_MAX_BODY_BYTES", "1"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("EMAIL_URL", "carrier-pigeon://x"),
        ("SECRET_KEY", "short"),
        ("ALLOWED_HOSTS", "https://app.example.com"),
        ("ALLOWED_HOSTS", "app.example.com:443"),
        ("CORS_ALLOWED_ORIGINS", "www.example.com"),
        ("CORS_ALLOWED_ORIGINS", "*"),
        ("CORS_ALLOWED_ORIGINS", "https://*.example.com"),
        ("CORS_ALLOWED_ORIGINS", "https://www.example.com/"),
        ("COOKIE_SAMESITE", "Foo"),
        ("COOKIE_SUFFIX", "; Path=/"),
        ("LITELLM_MASTER_KEYS", "sk-0123456789abcdef,with a space"),
        ("LITELLM_KEY_PREFIX", "a b"),
        ("LITELLM_KEY_PREFIX", ""),
        ("LITELLM_CONFIG_PATH", "/nope.yaml"),
        ("STRIPE_SECRET_KEY", "pk_live_0123456789"),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_0123456789,foo"),
        ("SPEND_GUARD_PERCENT", "500"),
        ("SENTRY_DSN", "foo"),
    ],
)
def test_nonsense_stops_the_start_and_is_named(environment, name, value):
    environment[name] = value

    message = refusal()

    assert message.startswith(f"{name}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "ENCRYPTION_KEYS", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS"]
)
def test_bad_secret_is_not_repeated(environment, name):
    environment[name] = "nearly-a-secret"

    assert "nearly-a-secret" not in refusal()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_HOSTS", "app.example.com,.example.com,*,127.0.0.1,[::1]"),
        ("CORS_ALLOWED_ORIGINS", "https://www.example.com,http://localhost:3000,http://[::1]:3000"),
        ("COOKIE_SAMESITE", "none"),
        ("COOKIE_SUFFIX", "_8010"),
        ("STRIPE_SECRET_KEY", "rk_live_0123456789"),
        ("LITELLM_KEY_PREFIX", "acme-2.eu"),
        ("SPEND_GUARD_PERCENT", "100"),
    ],
)
def test_unusual_but_right_values_are_taken(environment, name, value):
    environment[name] = value

    load()


def test_firebase_emulator_is_refused(environment):
    """With this variable firebase-admin accepts unsigned tokens."""
    environment["FIREBASE_AUTH_EMULATOR_HOST"] = "127.0.0.1:9099"

    assert refusal().startswith("FIREBASE_AUTH_EMULATOR_HOST: ")


def test_firebase_emulator_is_refused_on_a_laptop_too(environment):
    environment |= {"DEBUG": "true", "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9099"}

    assert refusal().startswith("FIREBASE_AUTH_EMULATOR_HOST: ")


def test_laptop_needs_no_variable(environment):
    for name in PRODUCTION:
        del environment[name]
    environment["DEBUG"] = "true"

    assert load()["DEBUG"] is True


def test_process_ends_with_that_one_line():
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == "SECRET_KEY: is not set (see .env.example)\n"


def test_every_variable_is_described():
    """And nothing is described that nobody reads."""
    source = (ROOT / "tesslate" / "settings.py").read_text()
    example = (ROOT / ".env.example").read_text()
    read = set(re.findall(r"env\.\w+\(\s*\"([A-Z_0-9]+)\"", source)) | {"DEBUG"}
    described = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", example, re.M))

    others = "".join(
        (ROOT / name).read_text() for name in ("docker-compose.yml", "litellm.config.yaml")
    )

    assert read - described == set()
    assert {name for name in described - read if name not in others} == set()


def ids(settings: Any) -> set[str]:
    settings.DEBUG = False
    return {
        message.id or ""
        for message in run_checks(tags=[Tags.security], include_deployment_checks=True)
    }


@pytest.mark.parametrize(
    "name", ["STRIPE_API_URL", "FIREBASE_AUTH_URL", "FIREBASE_TOKEN_URL", "FIREBASE_CERTS_URL"]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_e001_stand_in_in_production_is_an_error(settings, name, host):
    for other in (
        "STRIPE_API_URL",
        "FIREBASE_AUTH_URL",
        "FIREBASE_TOKEN_URL",
        "FIREBASE_CERTS_URL",
    ):
        setattr(settings, other, "https://example.com")
    assert "tesslate.E001" not in ids(settings)

    setattr(settings, name, f"http://{host}:9000/x")

    assert "tesslate.E001" in ids(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "local-only-not-a-secret-0"),
        ("ENCRYPTION_KEYS", ["bG9jYWwtb25seS1ub3QtYS1zZWNyZXQtMDAwMDAwMDA="]),
        ("LITELLM_MASTER_KEYS", ["sk-local-master-key"]),
        ("STRIPE_WEBHOOK_SECRETS", ["whsec_real", "whsec_local"]),
    ],
)
def test_e002_published_secret_in_production_is_an_error(settings, name, value):
    assert "tesslate.E002" not in ids(settings)

    setattr(settings, name, value)

    assert "tesslate.E002" in ids(settings)


def test_w001_answers_cut_before_the_gateway_gives_up_are_a_warning(settings, tmp_path):
    config = tmp_path / "litellm.config.yaml"
    config.write_text("model_list: []\nrouter_settings: {timeout: 120}\n")
    settings.LITELLM_CONFIG_PATH = str(config)
    settings.CHAT_TIMEOUT_SECONDS = 120
    assert "tesslate.W001" not in ids(settings)

    settings.CHAT_TIMEOUT_SECONDS = 119

    assert "tesslate.W001" in ids(settings)


@pytest.mark.parametrize("value", ["sk-short", "0123456789abcdef"])
def test_w002_master_key_that_litellm_would_not_advise_is_a_warning(settings, value):
    settings.LITELLM_MASTER_KEYS = ["sk-0123456789abcdef"]
    assert "tesslate.W002" not in ids(settings)

    settings.LITELLM_MASTER_KEYS = ["sk-0123456789abcdef", value]

    assert "tesslate.W002" in ids(settings)


def test_stand_ins_are_fine_on_a_laptop(settings):
    settings.DEBUG = True
    settings.STRIPE_API_URL = "http://127.0.0.1:9000"

    assert not [m for m in run_checks(tags=[Tags.security]) if (m.id or "").startswith("tesslate.")]


@pytest.mark.django_db
def test_nothing_is_left_to_migrate(settings):
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)

"""Read the environment so that a bad value stops the start with one line naming the variable."""

import re
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

# What `check --deploy` asks for (Django's security.W009).
SECRET_KEY_LENGTH = 50


class BadSetting(SystemExit):
    """The process cannot start: the message is one line that names the variable."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem} (see .env.example)")


class Environment:
    """Typed access to environment variables; every reader raises BadSetting on nonsense.

    ``local`` says that this is a developer's machine: only then may a default written for
    local use (``local_default``) stand in for a value that production has to give.
    """

    def __init__(self, *files: Path) -> None:
        for file in files:
            if file.is_file():
                environ.Env.read_env(str(file), overwrite=False)
        self._env = environ.Env()
        self.local = self.boolean("DEBUG", default=False)

    def text(
        self,
        name: str,
        *,
        default: str | None = None,
        local_default: str | None = None,
        check: Callable[[str], str | None] | None = None,
    ) -> str:
        if default is None and self.local:
            default = local_default
        value = str(self._env.str(name, default="" if default is None else default)).strip()
        if not value and default is None:
            raise BadSetting(name, "is not set")
        # Set to nothing is a value like others, unless nothing is what there is without it.
        if (value or default) and check is not None and (problem := check(value)):
            raise BadSetting(name, problem)
        return value

    def choice(self, name: str, *choices: str, default: str) -> str:
        """One of a few words, spelled as in ``choices`` whatever the case it is given in."""
        value = self.text(name, default=default)
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise BadSetting(name, f"{value!r} is none of {', '.join(choices)}")

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.text(name, default=str(default)).lower()
        if value in {"1", "true", "yes", "on"}:
            return True
        if value in {"0", "false", "no", "off"}:
            return False
        raise BadSetting(name, f"{value!r} is neither true nor false")

    def integer(
        self, name: str, *, default: int, minimum: int = 0, maximum: int | None = None
    ) -> int:
        value = self.text(name, default=str(default))
        try:
            number = int(value)
        except ValueError:
            raise BadSetting(name, f"{value!r} is not a whole number") from None
        if number < minimum:
            raise BadSetting(name, f"{number} is less than {minimum}")
        if maximum is not None and number > maximum:
            raise BadSetting(name, f"{number} is more than {maximum}")
        return number

    def items(
        self,
        name: str,
        *,
        default: str | None = None,
        local_default: str | None = None,
        check: Callable[[str], str | None] | None = None,
    ) -> list[str]:
        """Comma-separated values; without ``default`` at least one is required."""
        raw = self.text(name, default=default, local_default=local_default)
        values = [item.strip() for item in raw.split(",") if item.strip()]
        if not values and default is None:
            raise BadSetting(name, "names no value")
        for value in values:
            if check is not None and (problem := check(value)):
                raise BadSetting(name, problem)
        return values

    def url(
        self, name: str, *, default: str | None = None, local_default: str | None = None
    ) -> str:
        """A base address without a trailing slash."""
        return self.text(
            name, default=default, local_default=local_default, check=_url_problem
        ).rstrip("/")

    def database(self, name: str, *, local_default: str) -> dict[str, object]:
        value = self.text(name, local_default=local_default)
        try:
            with warnings.catch_warnings():
                # An unknown scheme is told by the one line below, not by a second one.
                warnings.simplefilter("ignore")
                config = dict(environ.Env.db_url_config(value))
        except (ImproperlyConfigured, ValueError):
            raise BadSetting(name, "is not a database URL") from None
        if config.get("ENGINE") != "django.db.backends.postgresql":
            raise BadSetting(name, "must be a postgresql:// URL")
        return config

    def email(self, name: str, *, default: str) -> dict[str, object]:
        """Django's EMAIL_* settings out of one URL."""
        try:
            return dict(environ.Env.email_url_config(self.text(name, default=default) or default))
        except (ImproperlyConfigured, KeyError, ValueError):
            raise BadSetting(name, "is not a mail URL") from None


def _url_problem(value: str) -> str | None:
    return None if _has_host(value, {"http", "https"}) else "is not an http(s) URL"


def collector_problem(value: str) -> str | None:
    if (problem := _url_problem(value)) is None and find_spec("opentelemetry.sdk") is None:
        return "is set, but this build is without OpenTelemetry (requirements-otel.txt)"
    return problem


def sampler_problem(value: str) -> str | None:
    """Against OpenTelemetry's specification; the SDK would take another one in silence."""
    plain = value.removeprefix("parentbased_")
    return None if plain in {"always_on", "always_off", "traceidratio"} else "is no such sampler"


def ratio_problem(value: str) -> str | None:
    try:
        return None if 0 <= float(value) <= 1 else "is not between 0 and 1"
    except ValueError:
        return "is not a number"


def redis_problem(value: str) -> str | None:
    return None if _has_host(value, {"redis", "rediss"}) else "is not a redis:// or rediss:// URL"


def _has_host(value: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def host_problem(value: str) -> str | None:
    """Against what Django compares a request's host with: a name or address without a port, a
    leading dot for a name and all below it, or an asterisk for any."""
    pattern = r"\*|\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]"
    if re.fullmatch(pattern, value, re.I):
        return None
    return f"{value!r} is not a host name alone, such as app.example.com"


def origin_problem(value: str) -> str | None:
    """Against RFC 6454, as browsers send it: scheme, host and a port that is not the usual one."""
    if (
        _has_host(value, {"http", "https"})
        and re.fullmatch(r"https?://[^/?#@*\s]+", value)
        and value == value.lower()
    ):
        return None
    return f"{value!r} is not an origin, such as https://www.example.com"


def secret_key_problem(value: str) -> str | None:
    if len(value) < SECRET_KEY_LENGTH:
        return f"is shorter than {SECRET_KEY_LENGTH} characters"
    return None


def stripe_key_problem(value: str) -> str | None:
    """Say what is wrong with Stripe's API key, without repeating it."""
    if value.startswith("pk_"):
        return "is a publishable key; the secret one begins with sk_ or rk_"
    if re.match("[sr]k_(test|live)_", value):
        return None
    return "does not begin with sk_test_, sk_live_, rk_test_ or rk_live_"


def signing_secret_problem(value: str) -> str | None:
    return None if value.startswith("whsec_") else "holds a value that does not begin with whsec_"


def bearer_problem(value: str) -> str | None:
    """Say that a value cannot stand in an Authorization header, without repeating it."""
    return None if re.fullmatch(r"[!-~]+", value) else "holds a value with blanks or odd characters"


def name_part_problem(value: str) -> str | None:
    """What goes into names of keys, teams or cookies has nothing in it that ends a name."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,50}", value):
        return None
    return f"{value!r} is not 1 to 50 letters, digits, dots, hyphens and underscores"


def fernet_key_problem(value: str) -> str | None:
    """Say what is wrong with an encryption key, without repeating it."""
    try:
        Fernet(value.encode())
    except ValueError:
        return "holds a value that is not a Fernet key (32 bytes, url-safe base64)"
    return None


def file_problem(value: str) -> str | None:
    return None if Path(value).is_file() else "names no file that there is"


def listen_problem(value: str) -> str | None:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return "is not an address to listen on, such as 0.0.0.0:9100"
    return None

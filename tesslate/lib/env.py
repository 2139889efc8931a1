"""Read the environment so that a bad value stops the start with one line naming the variable."""

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
        if value and check is not None and (problem := check(value)):
            raise BadSetting(name, problem)
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.text(name, default=str(default)).lower()
        if value in {"1", "true", "yes", "on"}:
            return True
        if value in {"0", "false", "no", "off"}:
            return False
        raise BadSetting(name, f"{value!r} is neither true nor false")

    def integer(self, name: str, *, default: int, minimum: int = 0) -> int:
        value = self.text(name, default=str(default))
        try:
            number = int(value)
        except ValueError:
            raise BadSetting(name, f"{value!r} is not a whole number") from None
        if number < minimum:
            raise BadSetting(name, f"{number} is less than {minimum}")
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

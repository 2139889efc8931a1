"""The stand-in's variables.

SANDBOX_STRIPE_PORT            where it listens, on 127.0.0.1
SANDBOX_STRIPE_SECRET_KEY      the API key it accepts; it guards the control interface, too
SANDBOX_STRIPE_WEBHOOK_URL     where events go; without it, only to endpoints made by the API
SANDBOX_STRIPE_WEBHOOK_SECRET  what they are signed with
SANDBOX_STRIPE_DATA            folder for its state; without it, nothing outlives the process
SANDBOX_STRIPE_PUBLIC_URL      base of the hosted pages (http://127.0.0.1:PORT)
SANDBOX_STRIPE_API_VERSION     shape of events and of answers to calls that name none
SANDBOX_STRIPE_RETRY_SECONDS   waits between delivery attempts, the last one repeated (1,2,5,15,60)
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.stripe.behaviour import ENDIVE
from sandbox.stripe.errors import InvalidRequest
from sandbox.stripe.versions import checked

RETRY_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)


class BadSetting(RuntimeError):
    """A variable makes no sense. The message is one line that names it."""


@dataclass(frozen=True)
class Settings:
    secret_key: str
    public_url: str
    webhook_url: str | None = None
    webhook_secret: str | None = None
    data: Path | None = None
    api_version: str = ENDIVE
    retry_seconds: tuple[float, ...] = RETRY_SECONDS

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> tuple["Settings", int]:
        """The settings and the port to serve on. Raises BadSetting."""
        port = _needed(env, "PORT")
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise BadSetting(f"SANDBOX_STRIPE_PORT: {port!r} is no port number")
        url = env.get("SANDBOX_STRIPE_WEBHOOK_URL") or None
        data = env.get("SANDBOX_STRIPE_DATA")
        made = cls(
            secret_key=_needed(env, "SECRET_KEY"),
            public_url=env.get("SANDBOX_STRIPE_PUBLIC_URL") or f"http://127.0.0.1:{port}",
            webhook_url=url,
            webhook_secret=_needed(env, "WEBHOOK_SECRET") if url else None,
            data=Path(data) if data else None,
            api_version=_version(env.get("SANDBOX_STRIPE_API_VERSION") or ENDIVE),
            retry_seconds=_seconds(env.get("SANDBOX_STRIPE_RETRY_SECONDS")),
        )
        return made, int(port)


def _needed(env: Mapping[str, str], name: str) -> str:
    value = env.get(f"SANDBOX_STRIPE_{name}")
    if not value:
        raise BadSetting(f"SANDBOX_STRIPE_{name}: is not set")
    return value


def _version(text: str) -> str:
    try:
        return checked(text)
    except InvalidRequest as error:
        raise BadSetting(f"SANDBOX_STRIPE_API_VERSION: {error}") from None


def _seconds(text: str | None) -> tuple[float, ...]:
    if not text:
        return RETRY_SECONDS
    try:
        waits = tuple(float(part) for part in text.split(","))
    except ValueError:
        waits = ()
    if not waits or min(waits) <= 0:
        raise BadSetting(f"SANDBOX_STRIPE_RETRY_SECONDS: {text!r} is no list of seconds")
    return waits

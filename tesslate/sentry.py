"""Errors to Sentry, for those who set SENTRY_DSN. What leaves is a traceback and ids: no bodies, no
headers, no local variables, nobody's address, and everything that is left goes through the same
redaction as the log."""

from typing import TYPE_CHECKING, Any

from tesslate.lib.env import BadSetting
from tesslate.lib.logcontext import current_fields
from tesslate.lib.redaction import redact

if TYPE_CHECKING:
    from sentry_sdk.types import Breadcrumb, Event, Hint

# All that is told of a request. Its address goes without the query, which may hold anything.
REQUEST_PARTS = ("method", "url")


def start(dsn: str, *, environment: str, release: str) -> None:
    """Report what goes wrong in this process from now on. Raises BadSetting."""
    try:
        import sentry_sdk
    except ImportError:
        raise BadSetting(
            "SENTRY_DSN", "is set, but this build is without sentry-sdk (requirements-sentry.txt)"
        ) from None
    try:
        sentry_sdk.init(**options(dsn, environment=environment, release=release))
    except sentry_sdk.utils.BadDsn:
        raise BadSetting("SENTRY_DSN", "is not a Sentry DSN (https://key@host/project)") from None


def options(dsn: str, *, environment: str, release: str) -> dict[str, Any]:
    return {
        "dsn": dsn,
        "environment": environment,
        "release": release or None,
        "include_local_variables": False,
        "max_request_body_size": "never",
        # Tracing would put headers of its own onto calls to the gateway and to Stripe.
        "traces_sample_rate": None,
        "trace_propagation_targets": [],
        "before_send": scrub_event,
        "before_breadcrumb": scrub_breadcrumb,
    }


def scrub_event(event: "Event", hint: "Hint") -> "Event":
    """What may be sent of an event, under the ids that its log lines bear."""
    request = event.get("request")
    if isinstance(request, dict):
        event["request"] = {part: request[part] for part in REQUEST_PARTS if part in request}
    user = event.get("user")
    if isinstance(user, dict):
        event["user"] = {"id": user["id"]} if "id" in user else {}
    event["tags"] = {**dict(event.get("tags") or {}), **current_fields()}
    cleaned: Event = _clean(event)
    return cleaned


def scrub_breadcrumb(crumb: "Breadcrumb", hint: dict[str, Any]) -> "Breadcrumb":
    cleaned: Breadcrumb = _clean(crumb)
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return value

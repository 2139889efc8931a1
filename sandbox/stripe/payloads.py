"""The bytes of an event as a webhook endpoint gets them, and their signature."""

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

import orjson

from sandbox.stripe.events import Event
from sandbox.stripe.versions import is_current, render_as

if TYPE_CHECKING:
    from sandbox.stripe.world import World


def payload(world: "World", event: Event, version: str | None = None) -> bytes:
    """In the endpoint's API version, or the account's at the time of the event."""
    wanted = version or event.api_version
    if is_current(wanted) and wanted == event.api_version:
        return event.as_bytes()
    with world.lock:
        shown = {**event.as_json(), "api_version": wanted}
        return orjson.dumps(render_as(world, shown, wanted))


def signature(body: bytes, secret: str, timestamp: int | None = None) -> str:
    """The Stripe-Signature header (https://docs.stripe.com/webhooks#verify-manually)."""
    moment = int(time.time()) if timestamp is None else timestamp
    signed = f"{moment}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"

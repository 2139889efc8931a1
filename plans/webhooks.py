"""POST /webhooks/stripe: verify, store, answer. No call out, no parsing into library objects.

200  stored (new or seen before)
400  not signed by Stripe just now, or no event; nothing was stored
405  not a POST
413  larger than STRIPE_WEBHOOK_MAX_BYTES
503  could not be stored, or no secret is configured: Stripe will deliver it again
"""

import json
import logging
import time
from typing import Any

import orjson
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from plans import inbox
from plans.metrics import WEBHOOKS
from plans.models import StripeEvent
from plans.signatures import BadSignature, verify
from plans.tasks import process_events
from plans.wakeups import wake
from tesslate.lib.errors import MethodNotAllowed, error_body

logger = logging.getLogger(__name__)

NOT_POST = MethodNotAllowed("POST")

# Forged requests may come in floods: one log line stands for all within this time.
LOG_EVERY_SECONDS = 10.0

# JSON may spell it; PostgreSQL's jsonb does not take it.
NUL = b"\\u0000"

_logged_at = 0.0
_unlogged = 0


class Refusal(Exception):
    """Nothing was stored. ``code`` is stable."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


@csrf_exempt
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Stripe's deliveries. Knows no session, no user and no CSRF token."""
    if request.method != "POST":
        return _answer(405, NOT_POST.body(), NOT_POST.headers())
    try:
        body = _read(request)
        stored = receive(request.headers.get("Stripe-Signature"), body)
    except Refusal as refusal:
        return _answer(refusal.status, refusal_body(refusal))
    return _answer(200, {"received": True, "duplicate": not stored.is_new})


def refusal_body(refusal: Refusal) -> dict[str, Any]:
    """The one error shape."""
    kind = "api_error" if refusal.status >= 500 else "invalid_request_error"
    return error_body(type=kind, code=refusal.code, message=refusal.message)


def _answer(
    status: int, content: dict[str, Any], headers: dict[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(
        json.dumps(content), content_type="application/json", status=status, headers=headers
    )


def _read(request: HttpRequest) -> bytes:
    """The raw body, at most one byte more than allowed whatever the sender announces."""
    limit: int = settings.STRIPE_WEBHOOK_MAX_BYTES
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdigit() and int(announced) > limit:
        raise too_large()
    try:
        body: bytes = request.read(limit + 1)
    except (UnreadablePostError, OSError):
        raise incomplete() from None
    if len(body) > limit:
        raise too_large()
    return body


def incomplete() -> Refusal:
    return _refuse("incomplete", 400, "incomplete_body", "The body did not arrive in time.")


def too_large() -> Refusal:
    return _refuse("too_large", 413, "request_too_large", "The body is too large.")


def receive(signature: str | None, body: bytes) -> inbox.Stored:
    """Verify and store one delivery; raises Refusal. What counts is the raw bytes."""
    event, text = open_envelope(signature, body)
    stored = keep(event, text)
    if stored.state == StripeEvent.State.PENDING:
        wake(process_events)
    return stored


def open_envelope(signature: str | None, body: bytes) -> tuple[Any, str]:
    """The verified event and its JSON text; touches no database. Raises Refusal."""
    secrets = [secret for secret in settings.STRIPE_WEBHOOK_SECRETS if secret.strip()]
    if not secrets:
        raise _refuse("no_secret", 503, "not_configured", "No signing secret is configured.")
    try:
        verify(
            signature,
            body,
            secrets=secrets,
            tolerance=settings.STRIPE_WEBHOOK_TOLERANCE_SECONDS,
            now=time.time(),
        )
    except BadSignature as error:
        raise _refuse(
            f"signature_{error.reason}", 400, "invalid_signature", "The signature is not valid."
        ) from None
    try:
        event = orjson.loads(body)
    except ValueError:
        raise _refuse("not_json", 400, "invalid_body", "The body is not JSON.") from None
    return event, inbox.json_text(event) if NUL in body else body.decode()


def keep(event: Any, text: str) -> inbox.Stored:
    """Store a verified event; raises Refusal."""
    try:
        stored = inbox.store(event, text)
    except inbox.NotAnEvent as error:
        logger.error("a signed webhook is no snapshot event (%s): check the endpoint", error.reason)
        raise _refuse(error.reason, 400, "invalid_event", "This is no snapshot event.") from None
    except (DatabaseError, InterfaceError) as error:
        logger.error("a webhook could not be stored: %s", type(error).__name__)
        raise _refuse("not_stored", 503, "not_stored", "Could not be stored. Send it again.") from (
            error
        )
    WEBHOOKS.labels("stored" if stored.is_new else "repeated").inc()
    return stored


def _refuse(outcome: str, status: int, code: str, message: str) -> Refusal:
    global _logged_at, _unlogged
    WEBHOOKS.labels(outcome).inc()
    now = time.monotonic()
    if now - _logged_at < LOG_EVERY_SECONDS:
        _unlogged += 1
    else:
        logger.warning("webhook refused: %s (and %d before, not logged)", outcome, _unlogged)
        _logged_at, _unlogged = now, 0
    return Refusal(status, code, message)

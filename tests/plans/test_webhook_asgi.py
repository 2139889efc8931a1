"""The webhook's fast entrance behaves as the view does, and reads no more than it must."""

import asyncio
import json
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError, connection

from plans import asgi, inbox
from plans.asgi import WebhookApplication
from plans.models import StripeEvent
from tesslate.lib.logcontext import current_fields
from tests.plans.builders import signed, stripe_event, stripe_subscription

pytestmark = pytest.mark.django_db(transaction=True)


async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def published() -> Any:
    with mock.patch.object(asgi, "publish") as publish:
        yield publish


def call(*chunks: bytes, path: str = asgi.PATH, method: str = "POST", **headers: str) -> Any:
    """One request; chunks arrive one by one. Gives status, content and chunks left unread."""
    (start, end), left = exchange(*chunks, path=path, method=method, **headers)
    return start["status"], json.loads(end["body"]) if end["body"] else None, left


def exchange(*chunks: bytes, path: str = asgi.PATH, method: str = "POST", **headers: str) -> Any:
    """The same in ASGI's messages."""
    left = list(chunks)
    sent: list[Any] = []

    async def receive() -> Any:
        if not left:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "headers": [(k.lower().replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }

    def close() -> None:
        connection.close()  # the storing thread's own

    async def run() -> None:
        with mock.patch.object(asgi, "STORING_THREADS", 1):
            application = WebhookApplication(elsewhere)
        await application(scope, receive, send)
        await asyncio.sleep(0.05)
        await asyncio.get_running_loop().run_in_executor(application._threads, close)
        application._threads.shutdown()

    asyncio.run(run())
    return sent, len(left)


@pytest.fixture
def event() -> dict[str, Any]:
    return stripe_event("customer.subscription.updated", stripe_subscription())


def test_I01_a_signed_event_is_stored_and_the_workers_are_woken(
    event: dict[str, Any], published: Any
) -> None:
    body, header = signed(event)
    status, content, _ = call(body[:50], body[50:], Stripe_Signature=header)
    assert (status, content["duplicate"]) == (200, False)
    assert StripeEvent.objects.get().payload == event
    published.assert_called_once()


def test_I02_a_forged_event_is_refused_and_nobody_is_woken(
    event: dict[str, Any], published: Any
) -> None:
    body, header = signed(event, secret="whsec_of_somebody_else")
    status, content, _ = call(body, Stripe_Signature=header)
    assert (status, content["error"]["code"]) == (400, "invalid_signature")
    assert not StripeEvent.objects.exists()
    published.assert_not_called()


def test_I17_a_body_over_the_limit_is_refused_before_it_is_read(settings: Any) -> None:
    settings.STRIPE_WEBHOOK_MAX_BYTES = 1024
    chunk = b"x" * 600
    assert call(chunk, chunk, chunk, chunk, Content_Length="2400")[::2] == (413, 4)
    # A sender that announces nothing is cut off once it has sent too much.
    assert call(chunk, chunk, chunk, chunk)[::2] == (413, 2)


def test_I18_a_sender_that_dribbles_is_cut_off() -> None:
    with mock.patch.object(asgi, "BODY_SECONDS", 0.05):

        async def never() -> Any:
            await asyncio.sleep(60)

        with pytest.raises(Exception, match="incomplete_body"):
            asyncio.run(asgi._read({}, never))


def test_I19_any_other_method_is_405_in_the_one_shape() -> None:
    (start, end), _ = exchange(b"", method="GET")
    assert (start["status"], dict(start["headers"])[b"allow"]) == (405, b"POST")
    assert json.loads(end["body"])["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_every_answer_carries_a_request_id(method: str) -> None:
    (start, _), _ = exchange(b"{}", method=method, X_Request_ID="proxy-1234.abc")
    assert dict(start["headers"])[b"x-request-id"] == b"proxy-1234.abc"
    (start, _), _ = exchange(b"{}", method=method)
    assert len(dict(start["headers"])[b"x-request-id"]) == 32


def test_what_the_log_says_of_a_delivery_bears_its_id(event: dict[str, Any]) -> None:
    seen: list[Any] = []

    def store(*args: Any) -> Any:
        seen.append(current_fields().get("request_id"))
        return inbox.Stored(False, "done")

    body, header = signed(event)
    with mock.patch.object(inbox, "store", side_effect=store):
        exchange(body, Stripe_Signature=header, X_Request_ID="proxy-1234.abc")
    assert seen == ["proxy-1234.abc"]


def test_I21_a_broken_connection_is_replaced_and_a_dead_database_is_503(
    event: dict[str, Any], published: Any
) -> None:
    body, header = signed(event)
    once = [OperationalError("gone"), inbox.Stored(True, "pending")]
    with mock.patch.object(inbox, "store", side_effect=once):
        assert call(body, Stripe_Signature=header)[0] == 200
    with mock.patch.object(inbox, "store", side_effect=OperationalError("gone")):
        status, content, _ = call(body, Stripe_Signature=header)
    assert (status, content["error"]["code"]) == (503, "not_stored")


def test_everything_else_is_passed_on() -> None:
    assert call(b"", path="/webhooks/other")[0] == 418

"""What Sentry is sent finds the error, and holds no secret and nobody's address."""

import json
import logging
import sys
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.integrations.logging import EventHandler
from sentry_sdk.transport import Transport

from tesslate import sentry
from tesslate.lib.env import BadSetting
from tesslate.lib.logcontext import log_fields

DSN = "https://public@sentry.example.com/1"
# Beside the tests, since a traceback shows the source around it.
ADDRESS = "203.0.113.9"
CANARIES = ["sk-canary0123456789", "canary@example.com", "the-canary-without-looks"]


class Kept(Transport):
    """Keeps what would have been sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.sent.append(envelope.get_event())


@pytest.fixture
def kept(settings):
    settings.LITELLM_MASTER_KEYS = ["the-canary-without-looks"]
    transport = Kept()
    client = sentry_sdk.Client(
        **sentry.options(DSN, environment="tests", release="1"),
        transport=transport,
        # They would change Django and Celery for all other tests.
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        yield transport
    client.close()


def fail(text: str) -> None:
    key = text  # noqa: F841 - a local variable, as a traceback would show it
    raise RuntimeError(text)


def test_error_is_sent_under_the_ids_of_its_log_lines_and_without_secrets(kept):
    scope = sentry_sdk.get_isolation_scope()
    scope.set_user({"id": "7", "email": CANARIES[1], "ip_address": ADDRESS})
    sentry_sdk.add_breadcrumb(message=" ".join(CANARIES), data={"key": CANARIES})
    with log_fields(request_id="req_1", event_id="evt_1"):
        try:
            fail(" ".join(CANARIES))
        except RuntimeError:
            sentry_sdk.capture_exception()

    [event] = kept.sent
    text = json.dumps(event, default=str)
    assert event["exception"]["values"][0]["type"] == "RuntimeError"
    assert (event["tags"]["request_id"], event["tags"]["event_id"]) == ("req_1", "evt_1")
    assert event["user"] == {"id": "7"}
    assert not [canary for canary in [*CANARIES, ADDRESS] if canary in text]


def test_logged_error_is_sent_without_secrets(kept):
    logger = logging.getLogger("tests.sentry")
    handler = EventHandler(level=logging.ERROR)
    logger.addHandler(handler)
    try:
        logger.error("refused: %s", " ".join(CANARIES), extra={"body": CANARIES})
    finally:
        logger.removeHandler(handler)

    [event] = kept.sent
    assert "refused" in json.dumps(event)
    assert not [canary for canary in CANARIES if canary in json.dumps(event, default=str)]


def test_of_a_request_only_method_and_address_are_told():
    request: dict[str, object] = {
        "method": "POST",
        "url": "https://app.example.com/api/proxy/chat",
        "query_string": "token=x",
        "headers": {"Authorization": "Bearer x"},
        "cookies": {"session": "x"},
        "data": {"messages": []},
        "env": {"REMOTE_ADDR": ADDRESS},
    }

    event = sentry.scrub_event({"request": request}, {})

    assert event["request"] == {
        "method": "POST",
        "url": "https://app.example.com/api/proxy/chat",
    }


def test_build_without_the_package_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)

    with pytest.raises(BadSetting, match="SENTRY_DSN: is set, but"):
        sentry.start(DSN, environment="tests", release="")


def test_nothing_is_sent_unless_asked_for():
    assert not sentry_sdk.get_global_scope().get_client().is_active()

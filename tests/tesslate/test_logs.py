"""No secret and no address comes out of the log, however it got in."""

import json
import logging
import logging.config
import sys

import pytest

from tesslate.lib.logcontext import log_fields
from tesslate.lib.redaction import redact
from tesslate.logs import JsonFormatter, RedactingFormatter, TextFormatter

CANARIES = {
    "virtual key": "sk-canary0123456789abcdef",
    "api token": "tk-canary0123456789abcdef",
    "stripe key": "sk_live_canary0123456789",
    "restricted stripe key": "rk_test_canary0123456789",
    "webhook secret": "whsec_canary0123456789",
    "id token": "eyJhbGciOiJSUzI1NiJ9."  # pragma: allowlist secret
    "eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlY2FuYXJ5",
    "google key": "AIzaSyCanary0123456789abcdefghijk",
    "bearer": "Bearer canary0123456789abcdef",
    "database password": "postgresql://tesslate:canary0123@postgres:5432/tesslate",
    "redis password": "redis://:canary0123@redis:6379/0",
    "address": "canary@example.com",
}
each_canary = pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES)
each_formatter = pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])


def record(message: object, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("tests", logging.INFO, __file__, 1, message, args, None)
    vars(made).update(extra)
    return made


@each_canary
@each_formatter
def test_canary_in_the_message_stays_in(formatter, canary):
    assert "canary" not in formatter.format(record(f"got {canary}!")).lower()


@each_canary
@each_formatter
def test_canary_in_an_argument_stays_in(formatter, canary):
    assert "canary" not in formatter.format(record("got %s and %r", canary, [canary])).lower()


@each_canary
@each_formatter
def test_canary_in_an_extra_field_stays_in(formatter, canary):
    line = formatter.format(record("got it", text=canary, nested={"list": [canary]}))

    assert "canary" not in line.lower()


@each_canary
@each_formatter
def test_canary_in_a_traceback_stays_in(formatter, canary):
    made = record("it broke")
    try:
        raise ValueError(canary)
    except ValueError:
        made.exc_info = sys.exc_info()

    line = formatter.format(made)

    assert "ValueError" in line
    assert "canary@" not in line
    assert redact(canary) in line.replace('\\"', '"')


@each_canary
@each_formatter
def test_canary_in_the_context_stays_in(formatter, canary):
    with log_fields(event_id=canary):
        assert "canary" not in formatter.format(record("got it")).lower()


@each_formatter
def test_secret_of_this_installation_is_known_by_its_value(formatter, settings):
    settings.LITELLM_MASTER_KEYS = ['with "quotes" and no usual looks']

    for text in (settings.LITELLM_MASTER_KEYS[0], [settings.LITELLM_MASTER_KEYS[0]]):
        assert "usual looks" not in formatter.format(record("got it", text=text))


@each_formatter
def test_settings_without_values_are_no_secrets(formatter, settings):
    settings.EMAIL_HOST_PASSWORD = None
    settings.METRICS_TOKEN = ""

    assert "an ordinary text" in formatter.format(record("an ordinary text"))


def test_server_logs_no_requests_of_its_own(settings):
    logging.config.dictConfig(settings.LOGGING)

    assert not logging.getLogger("uvicorn.access").hasHandlers()


@pytest.mark.parametrize("name", ["", "uvicorn", "uvicorn.error", "celery", "django.request"])
def test_no_logger_of_a_server_goes_past_our_formatter(name, settings):
    logging.config.dictConfig(settings.LOGGING)
    logger: logging.Logger | None = logging.getLogger(name)
    found = []
    while logger is not None:
        found += [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
        logger = logger.parent if logger.propagate else None

    assert found
    assert all(isinstance(handler.formatter, RedactingFormatter) for handler in found)


@each_formatter
def test_ordinary_text_is_left_alone(formatter):
    text = "cus_123 sub_123 evt_123 skipped sk- at 10:30, 3 of 4 keys, key 9f86d081884c7d65"

    assert text in formatter.format(record(text))


def test_json_line_holds_message_context_and_extras():
    with log_fields(request_id="abc"), log_fields(event_id="evt_1"):
        entry = json.loads(JsonFormatter().format(record("paid %s", "in_1", status=200)))

    assert entry["message"] == "paid in_1"
    assert entry["level"] == "info"
    assert (entry["request_id"], entry["event_id"], entry["status"]) == ("abc", "evt_1", 200)


def test_context_ends_with_its_block():
    with log_fields(event_id="evt_1"):
        pass

    assert "event_id" not in json.loads(JsonFormatter().format(record("later")))


def test_text_line_ends_with_the_extras():
    assert TextFormatter().format(record("paid", status=200)).endswith("tests: paid status=200")


def test_what_a_server_colours_for_a_terminal_is_not_told_twice():
    line = TextFormatter().format(record("Started %d", 7, color_message="Started \x1b[36m%d"))
    assert line.endswith("tests: Started 7")


@pytest.mark.parametrize("name", ["django.request", "axes.handlers.database"])
def test_libraries_do_not_tell_what_the_product_logs_itself(name, settings):
    logging.config.dictConfig(settings.LOGGING)
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    assert logging.getLogger(name).isEnabledFor(logging.ERROR)


@each_formatter
def test_log_call_with_wrong_arguments_still_logs(formatter):
    line = formatter.format(record("%d keys", "sk-canary0123456789"))

    assert "test_logs.py:1 cannot be rendered" in line
    assert "canary" not in line

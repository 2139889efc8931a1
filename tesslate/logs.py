"""Log lines for people (text) and for machines (JSON), without secrets or addresses in either.

Whatever a line is made of, the finished line is cleaned: message, arguments, extra fields, context
and traceback alike.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from tesslate.lib.logcontext import current_fields

SECRETS = re.compile(
    r"""
    (?P<bearer>(?i:bearer\s+)[A-Za-z0-9._~+/=-]{8,})
    | \b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{4,}   # Stripe keys
    | \bwhsec_[A-Za-z0-9]{4,}                     # Stripe webhook secrets
    | \bsk-[A-Za-z0-9_-]{8,}                      # gateway keys
    | \btk-[A-Za-z0-9_-]{8,}                      # personal API tokens
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*   # JSON Web Tokens
    | \bAIza[A-Za-z0-9_-]{20,}                    # Google API keys
    | (?<=://)[^\s/@"]*:[^\s/@"]+(?=@)            # user and password in an address
    """,
    re.VERBOSE,
)
EMAIL_ADDRESSES = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
STANDARD_ATTRIBUTES = frozenset(
    vars(logging.makeLogRecord({})) | {"message": "", "asctime": "", "taskName": ""}
)


def redact(text: str) -> str:
    """Replace whatever looks like a credential or an e-mail address."""
    return EMAIL_ADDRESSES.sub("[email]", SECRETS.sub("[secret]", text))


class RedactingFormatter(logging.Formatter):
    """Cleans the finished line. A call with arguments that do not fit its message still logs."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            line = self.line(record)
        except (TypeError, ValueError) as error:
            line = f"Log call in {record.pathname}:{record.lineno} cannot be rendered: {error}"
        return redact(line)

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError


class TextFormatter(RedactingFormatter):
    """One line for a person, extra fields as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def line(self, record: logging.LogRecord) -> str:
        return logging.Formatter.format(self, record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base names it so
        extras = " ".join(f"{name}={value}" for name, value in _extras(record).items())
        return super().formatMessage(record) + (f" {extras}" if extras else "")


class JsonFormatter(RedactingFormatter):
    """One JSON object a line."""

    def line(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """Context and extra fields; of those, the objects that libraries attach are left out."""
    extras = {
        name: value
        for name, value in vars(record).items()
        if name not in STANDARD_ATTRIBUTES
        and isinstance(value, str | int | float | bool | list | tuple | dict)
    }
    return {**current_fields(), **extras}

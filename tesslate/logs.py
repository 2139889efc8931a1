"""Log lines for people (text) and for machines (JSON), without secrets in either."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

SECRET_PATTERNS = re.compile(
    r"""
    (?P<bearer>(?i:bearer\s+)[A-Za-z0-9._~+/=-]{8,})
    | \b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{4,}   # Stripe keys
    | \bwhsec_[A-Za-z0-9]{4,}                     # Stripe webhook secrets
    | \bsk-[A-Za-z0-9_-]{8,}                      # gateway keys
    | \btk-[A-Za-z0-9_-]{8,}                      # personal API tokens
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*   # JSON Web Tokens
    | \bAIza[A-Za-z0-9_-]{20,}                    # Google API keys
    """,
    re.VERBOSE,
)
STANDARD_ATTRIBUTES = frozenset(
    vars(logging.makeLogRecord({})) | {"message": "", "asctime": "", "taskName": ""}
)


def redact(text: str) -> str:
    """Replace everything that looks like a credential. Cheap enough for every line."""
    return SECRET_PATTERNS.sub("[secret]", text)


class RedactSecrets(logging.Filter):
    """Clean the rendered message, its arguments and its extra fields."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = redact(record.getMessage())
        record.args = None
        for name, value in vars(record).items():
            if name not in STANDARD_ATTRIBUTES and isinstance(value, str):
                setattr(record, name, redact(value))
        return True


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in STANDARD_ATTRIBUTES}


class TextFormatter(logging.Formatter):
    """One line for a person, extra fields as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class names it so
        return redact(super().formatException(ei))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - likewise
        extras = " ".join(f"{k}={v}" for k, v in _extras(record).items())
        return super().formatMessage(record) + (f" {extras}" if extras else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            entry["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, default=str)

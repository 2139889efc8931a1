"""Log lines for people (text) and for machines (JSON), without secrets or addresses in either.

Whatever a line is made of, the finished line is cleaned: message, arguments, extra fields, context
and traceback alike.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from tesslate.lib.logcontext import current_fields
from tesslate.lib.redaction import redact

STANDARD_ATTRIBUTES = frozenset(
    vars(logging.makeLogRecord({}))
    # The last is uvicorn's: its message once more, with codes for a terminal.
    | {"message": "", "asctime": "", "taskName": "", "color_message": ""}
)


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

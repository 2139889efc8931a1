"""Types for the arguments of management commands, whose refusals say what would have been right."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, date, datetime


def a_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date (YYYY-MM-DD)") from None


def a_moment(text: str) -> datetime:
    """A date alone is its first moment, and what names no zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date (YYYY-MM-DD) or moment") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def a_number_from(minimum: int) -> Callable[[str], int]:
    """A whole number, not less than ``minimum``."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < minimum:
            raise ArgumentTypeError(f"{value} is less than {minimum}")
        return value

    return number

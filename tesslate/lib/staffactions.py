"""What an action of an admin list asks for before it runs.

Apps say it where they define the action; the staff's site (tesslate.staffroom) does the asking,
counts what will be touched, and runs what touches many rows in the background.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.http import HttpRequest

LONGEST_REASON = 500
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Questions:
    # What will happen, in full sentences.
    promise: str = ""
    # Why, for the audit log.
    reason: bool = False
    # Cannot be taken back: the password once more, for a screen left open is not enough.
    password: bool = False
    # Calls a neighbour for each row, so many rows are not one transaction. Such an action must
    # bear being repeated for a row.
    reaches_out: bool = False

    @property
    def always(self) -> bool:
        """Also for a single row?"""
        return self.reason or self.password


def asks(
    promise: str = "", *, reason: bool = False, password: bool = False, reaches_out: bool = False
) -> Callable[[Function], Function]:
    """Decorate an admin action, below ``@admin.action``."""

    def mark(function: Function) -> Function:
        function.questions = Questions(  # type: ignore[attr-defined]
            promise, reason, password, reaches_out
        )
        return function

    return mark


def questions_of(action: Callable[..., Any]) -> Questions:
    found = getattr(action, "questions", None)
    return found if isinstance(found, Questions) else Questions()


def given_reason(request: HttpRequest) -> str:
    """What was given to an action that asks for a reason."""
    return request.POST.get("reason", "").strip()[:LONGEST_REASON]

"""What an action of an admin list asks for before it runs.

Apps say it where they define the action; the staff's site (tesslate.staffroom) does the asking,
counts what will be touched, and runs what touches many rows in the background.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib import messages
from django.http import HttpRequest

from tesslate.lib.cause import Cause
from tesslate.lib.errors import ApiError

LONGEST_REASON = 500
Function = TypeVar("Function", bound=Callable[..., Any])
Row = TypeVar("Row")


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


def staff_cause(request: HttpRequest) -> Cause:
    """Who acts on a page of the admin."""
    assert request.user.pk is not None
    return Cause.staff(request.user.pk, "admin")


def do_to_each(
    request: HttpRequest, rows: Iterable[Row], do: Callable[[Row], object], *, and_then: str = ""
) -> None:
    """Do it to every row and tell the visitor for how many that worked, and what comes of it.

    An ApiError is told with its row, and does not stop the others.
    """
    done = 0
    for row in rows:
        try:
            do(row)
        except ApiError as error:
            messages.warning(request, f"{row}: {error.message}")
        else:
            done += 1
    if done:
        messages.success(request, f"Done for {done}{and_then}.")

"""The gravest acts need the password once more: a screen left open is not enough."""

from django.contrib.auth import authenticate
from django.http import HttpRequest

from accounts.models import User

WRONG_PASSWORD = "This is not your password."  # noqa: S105 - a message


def staff_user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def password_problem(request: HttpRequest) -> str:
    """Empty when the form brought the right password. Wrong ones count towards the lock-out."""
    staff = staff_user(request)
    checked = authenticate(request, username=staff.email, password=request.POST.get("password", ""))
    return "" if checked == staff else WRONG_PASSWORD

"""Who is at the screen."""

from django.http import HttpRequest

from accounts.models import User


def staff_user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user

"""Who a DRF request comes from, typed."""

from rest_framework.request import Request

from accounts.models import User


def caller(request: Request) -> User:
    """The user behind the request. For views that let nobody else in."""
    assert isinstance(request.user, User)
    return request.user

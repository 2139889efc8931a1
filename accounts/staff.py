"""Staff's rights over the API: a permission of their roles, and the second factor."""

from django.conf import settings
from django_otp import user_has_device
from rest_framework.request import Request

from accounts.callers import caller
from accounts.errors import SecondFactorRequired
from accounts.models import User
from tesslate.lib.errors import PermissionDenied


def is_staff_with(request: Request, permission: str) -> bool:
    """Whether the caller may use ``permission`` on other people's things in this request.

    Raises SecondFactorRequired where the role would do but the sign-in is worth less than the
    admin asks for: a Firebase password, or a session without its second factor.
    """
    user = caller(request)
    if not (user.is_staff and user.has_perm(permission)):
        return False
    if _lacks_second_factor(user):
        raise SecondFactorRequired
    return True


def require_staff(request: Request, permission: str) -> None:
    """Raises PermissionDenied or SecondFactorRequired; see is_staff_with."""
    if not is_staff_with(request, permission):
        raise PermissionDenied


def _lacks_second_factor(user: User) -> bool:
    # Set by OTPMiddleware, on a session's user only.
    is_verified = getattr(user, "is_verified", None)
    if is_verified is not None and is_verified():
        return False
    return bool(settings.STAFF_TWO_FACTOR_REQUIRED or user_has_device(user))

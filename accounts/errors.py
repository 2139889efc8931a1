"""What callers are told about accounts, one stable code per cause."""

from tesslate.lib.errors import InvalidToken, NotAuthenticated, PermissionDenied


class TokenTooOld(NotAuthenticated):
    """A cookie lasts for weeks, so it is only given for a sign-in of this moment."""

    code = "token_too_old"
    message = "Sign in again: the sign-in that this token comes from is too long ago."


class TokenExpired(InvalidToken):
    code = "token_expired"
    message = "The token has expired. Get a new one."


class CsrfFailed(PermissionDenied):
    code = "csrf_failed"
    message = "Send the CSRF token along: the cookie's value in the X-CSRFToken header."


class EmailRequired(PermissionDenied):
    code = "email_required"
    message = "Your sign-in has no e-mail address. Sign in with one."


class EmailNotVerified(PermissionDenied):
    code = "email_not_verified"
    message = "Verify your e-mail address, then sign in again."


class EmailInUse(PermissionDenied):
    code = "email_in_use"
    message = "Another account has this e-mail address. Sign in the way you did then."


class AccountInactive(PermissionDenied):
    code = "account_inactive"
    message = "This account is switched off. Please contact us."


class AccountDeleted(PermissionDenied):
    code = "account_deleted"
    message = "This account was deleted."


class StaffSignInElsewhere(PermissionDenied):
    code = "staff_sign_in_elsewhere"
    message = "Staff sign in at /admin/."

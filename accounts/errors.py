"""What callers are told about accounts, one stable code per cause."""

from tesslate.lib.errors import (
    ApiError,
    Conflict,
    InvalidToken,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
)


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


class SecondFactorRequired(PermissionDenied):
    code = "second_factor_required"
    message = "Staff's rights need a session that has passed the second factor: sign in at /admin/."


class TokenLacksScope(PermissionDenied):
    code = "token_lacks_scope"
    message = "This API token was not made for that."


class TooManyTokens(Conflict):
    code = "too_many_tokens"
    message = "You have as many API tokens as allowed. Revoke one first."


class TooManyOrganizations(Conflict):
    code = "too_many_organizations"
    message = "You own as many organizations as allowed."


class TooManyInvitations(Conflict):
    code = "too_many_invitations"
    message = "This organization has as many open invitations as allowed. Withdraw some first."


class AlreadyMember(Conflict):
    code = "already_member"
    message = "This person is a member already."


class LastOwner(Conflict):
    code = "last_owner"
    message = "An organization needs an owner: make somebody else one first."


class InvitationNotFound(NotFound):
    code = "invitation_not_found"
    message = "This invitation does not exist, was withdrawn, or has been used."


class InvitationExpired(ApiError):
    status_code = 410
    type = "invalid_request_error"
    code = "invitation_expired"
    message = "This invitation has expired. Ask for a new one."


class InvitationForSomebodyElse(PermissionDenied):
    code = "invitation_for_somebody_else"
    message = "This invitation was sent to another e-mail address. Sign in with that one."

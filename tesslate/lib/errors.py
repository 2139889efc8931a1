"""The one error shape: ``{"error": {"type", "code", "message", "param"}}``.

``type`` groups errors as OpenAI's clients expect them; ``code`` is stable and documented, one per
cause. Raise a subclass of ApiError anywhere below a view; the exception handler renders it.
"""

from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import APIException


class ApiError(APIException):
    """An error that a caller is told about.

    Class attributes give status, type, code and message; an instance may refine message,
    ``param`` (the request field at fault), ``retry_after`` (seconds, also sent as a header) and
    ``details`` (extra members of the error object, JSON-serialisable).
    """

    status_code = 500
    type = "api_error"
    code = "internal_error"
    message = "Something went wrong on our side."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message or type(self).message
        self.param = param
        self.retry_after = retry_after
        self.details = dict(details or {})
        super().__init__(self.message, self.code)

    def body(self) -> dict[str, Any]:
        return error_body(
            type=self.type, code=self.code, message=self.message, param=self.param, **self.details
        )

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def error_body(
    *, type: str, code: str, message: str, param: str | None = None, **details: Any
) -> dict[str, Any]:
    return {"error": {"type": type, "code": code, "message": message, "param": param, **details}}


class InvalidRequest(ApiError):
    status_code = 400
    type = "invalid_request_error"
    code = "invalid_request"
    message = "The request is not valid."


class NotAuthenticated(ApiError):
    status_code = 401
    type = "authentication_error"
    code = "not_authenticated"
    message = "Sign in, or send a valid token."
    # RFC 6750, section 3: a refused bearer token is named as such.
    challenge = 'Bearer realm="tesslate"'

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "WWW-Authenticate": self.challenge}


class InvalidToken(NotAuthenticated):
    code = "invalid_token"
    message = "The token is not valid. Sign in again."
    challenge = 'Bearer realm="tesslate", error="invalid_token"'


class PermissionDenied(ApiError):
    status_code = 403
    type = "permission_error"
    code = "permission_denied"
    message = "You may not do this."


class NotFound(ApiError):
    status_code = 404
    type = "invalid_request_error"
    code = "not_found"
    message = "There is no such thing, or it is not yours."


class MethodNotAllowed(ApiError):
    """``allowed`` are the methods that are, for the Allow header."""

    status_code = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    message = "This method is not allowed here."

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        super().__init__()

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "Allow": ", ".join(self.allowed)}


class Conflict(ApiError):
    status_code = 409
    type = "conflict_error"
    code = "conflict"
    message = "This cannot be done in the present state."


class TooLarge(ApiError):
    status_code = 413
    type = "invalid_request_error"
    code = "request_too_large"
    message = "The request is too large."


class RateLimited(ApiError):
    status_code = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    message = "Too many requests. Slow down and try again."


class Unavailable(ApiError):
    status_code = 503
    type = "api_error"
    code = "service_unavailable"
    message = "The service is not available at the moment. Try again shortly."

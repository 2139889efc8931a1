"""Turn every exception that leaves a DRF view into the one error shape."""

from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from tesslate.lib.errors import (
    ApiError,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    RateLimited,
    TooLarge,
    error_body,
)


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: an unknown exception stays unhandled and becomes a 500."""
    error = as_api_error(exc)
    if error is None:
        return None
    # DRF's own handler rolls back the transaction.
    response = drf_exception_handler(error, context)
    assert response is not None
    response.data = error.body()
    for name, value in error.headers().items():
        response[name] = value
    return response


def as_api_error(exc: Exception) -> ApiError | None:
    """The ApiError that tells the caller the same thing, or None for a fault of ours."""
    match exc:
        case ApiError():
            return exc
        case exceptions.ValidationError():
            param, message = _first_problem(exc.detail)
            return InvalidRequest(message, param=param)
        case exceptions.ParseError():
            return InvalidRequest("The body is not valid JSON.")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return NotAuthenticated()
        case exceptions.PermissionDenied() | DjangoPermissionDenied():
            return PermissionDenied(str(exc) or None)
        case exceptions.NotFound() | Http404():
            return NotFound()
        case exceptions.Throttled():
            wait: float | None = getattr(exc, "wait", None)
            return RateLimited(retry_after=None if wait is None else max(1, round(wait)))
        case exceptions.APIException():
            return _other_api_exception(exc)
    return None


class _Plain(ApiError):
    """DRF's remaining exceptions (405, 406, 415) with their own status and code."""


def _other_api_exception(exc: exceptions.APIException) -> ApiError:
    if exc.status_code == TooLarge.status_code:
        return TooLarge()
    error = _Plain(str(exc.detail))
    error.status_code = exc.status_code
    error.code = str(exc.default_code)
    error.type = "invalid_request_error" if exc.status_code < 500 else "api_error"
    return error


def _first_problem(detail: Any, path: str = "") -> tuple[str | None, str]:
    """The first field at fault, in dotted form, and what is wrong with it."""
    if isinstance(detail, dict):
        name, inner = next(iter(detail.items()))
        name = "" if name == "non_field_errors" else str(name)
        return _first_problem(inner, ".".join(part for part in (path, name) if part))
    if isinstance(detail, list):
        for index, inner in enumerate(detail):
            if inner:
                nested = isinstance(inner, dict)
                return _first_problem(inner, f"{path}[{index}]" if nested else path)
    return path or None, str(detail)


def server_error() -> dict[str, Any]:
    return error_body(type="api_error", code="internal_error", message=ApiError.message)

"""What Django answers outside any view: JSON in the one error shape where programs call."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from tesslate.errors import server_error
from tesslate.lib.errors import (
    ApiError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
)

API_PREFIXES = ("/api/", "/webhooks/", "/usage/", "/admin/keys", "/health", "/metrics")


def is_for_programs(request: HttpRequest) -> bool:
    return request.path.startswith(API_PREFIXES)


def only_read(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """For views that programs ask: any method but GET and HEAD is a 405 in the one shape."""

    @csrf_exempt  # nothing is changed, and the refusal would be a page
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return _json(MethodNotAllowed("GET", "HEAD"))
        return view(request)

    return guarded


@csrf_exempt
def api_not_found(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    """The last route below the API's prefixes, so that DEBUG shows the same as production."""
    return _json(NotFound())


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_for_programs(request):
        return _json(InvalidRequest())
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_for_programs(request):
        return _json(PermissionDenied())
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_for_programs(request):
        return _json(NotFound())
    return defaults.page_not_found(request, exception)


def internal_error(request: HttpRequest) -> HttpResponse:
    if is_for_programs(request):
        return JsonResponse(server_error(), status=500)
    return defaults.server_error(request)


def _json(error: ApiError) -> JsonResponse:
    return JsonResponse(error.body(), status=error.status_code, headers=error.headers())

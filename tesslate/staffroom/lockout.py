"""Whom django-axes counts wrong passwords against."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from rest_framework.throttling import BaseThrottle


def client_address(request: HttpRequest) -> str | None:
    """The caller's address, past our own proxies only (NUM_PROXIES), as the API's throttles see
    it: whoever writes X-Forwarded-For themselves gains nothing. None without a connection."""
    address = BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # reads META alone
    return address or None


def login_name(request: HttpRequest, credentials: Mapping[Any, Any] | None = None) -> str:
    """The name under which somebody tries to sign in, however the caller passed it on.

    Django's form calls it ``username``, our user model ``email``; axes itself would look for one
    before an attempt and for the other after it, and so never lock anybody out.
    """
    given = {str(name): value for name, value in (credentials or {}).items()}
    name = given.get("username") or given.get("email") or request.POST.get("username", "")
    return str(name).strip().lower()[:254]

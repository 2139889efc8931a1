"""Whom django-axes counts wrong passwords against, beside where the caller is."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest


def login_name(request: HttpRequest, credentials: Mapping[Any, Any] | None = None) -> str:
    """The name under which somebody tries to sign in, however the caller passed it on.

    Django's form calls it ``username``, our user model ``email``; axes itself would look for one
    before an attempt and for the other after it, and so never lock anybody out.
    """
    given = {str(name): value for name, value in (credentials or {}).items()}
    name = given.get("username") or given.get("email") or request.POST.get("username", "")
    return str(name).strip().lower()[:254]

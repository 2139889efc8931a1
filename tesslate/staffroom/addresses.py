"""Where a request really comes from."""

from django.http import HttpRequest
from rest_framework.throttling import BaseThrottle


def client_address(request: HttpRequest) -> str | None:
    """The caller's address, past our own proxies only (NUM_PROXIES), as the API's throttles see
    it: whoever writes X-Forwarded-For themselves gains nothing. None without a connection."""
    address = BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # reads META alone
    return address or None

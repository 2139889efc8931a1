"""Request throttles on the shared cache, for what an honest caller never does that often; and where
a caller is."""

import ipaddress
import logging
from typing import Any

from django.http import HttpRequest
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle

logger = logging.getLogger(__name__)


def client_address(request: HttpRequest) -> str | None:
    """The caller's address, past our own proxies only (NUM_PROXIES), as throttles see it: whoever
    writes X-Forwarded-For themselves gains nothing. None where no address is told."""
    told = BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # reads META alone
    try:
        return str(ipaddress.ip_address(told or ""))
    except ValueError:
        return None


class FailOpenThrottle(SimpleRateThrottle):
    """A throttle per client address that lets everyone through while the cache is down.

    Subclasses set ``scope`` (part of the cache key) and ``rate`` ("20/min").
    """

    def get_cache_key(self, request: Request, view: Any) -> str:
        return f"throttle:{self.scope}:{self.get_ident(request)}"

    def allow_request(self, request: Request, view: Any) -> bool:
        try:
            return super().allow_request(request, view)
        except RedisError as error:
            logger.warning("Throttle %s is off: the cache does not answer: %s", self.scope, error)
            return True


class PerUserThrottle(FailOpenThrottle):
    """The same per signed-in user, and per address for everyone else."""

    def get_cache_key(self, request: Request, view: Any) -> str:
        if request.user is not None and request.user.pk is not None:
            return f"throttle:{self.scope}:user:{request.user.pk}"
        return super().get_cache_key(request, view)

"""A form that is sent twice does its work once."""

import logging
import secrets

from django.core.cache import cache
from django.http import HttpRequest
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

REMEMBERED_SECONDS = 24 * 3600


def new_submission() -> str:
    """What a form carries to be told from the same form sent again."""
    return secrets.token_urlsafe(24)


def is_first(request: HttpRequest) -> bool:
    """Has the form of this request not been sent before? Ask once, right before acting.

    Without Redis nobody can tell, and staff have to be able to work: then yes.
    """
    submission = request.POST.get("submission", "")[:64]
    if not submission:
        return True
    key = f"staff:submission:{request.user.pk}:{submission}"
    try:
        return bool(cache.add(key, 1, REMEMBERED_SECONDS))
    except RedisError as error:
        logger.warning("Cannot tell whether a form was sent before: %s", type(error).__name__)
        return True

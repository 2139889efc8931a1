"""A form that is sent twice does its work once."""

import secrets

from django.http import HttpRequest

from tesslate.lib import caching

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
    return caching.is_first(f"staff:submission:{request.user.pk}:{submission}", REMEMBERED_SECONDS)

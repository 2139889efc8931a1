"""Which API versions' events we can read.

An event keeps the version of the endpoint that it was made for. Everything up to the pinned
version is read in both shapes (plans.stripe_reading); a later one may have moved fields again.
"""

import re
from functools import lru_cache

from django.conf import settings

DATED = re.compile(r"(\d{4}-\d{2}-\d{2})(\.[a-z]+)?", re.ASCII)


@lru_cache(maxsize=64)
def is_readable(version: str) -> bool:
    """An event without a version (Stripe allows it) is read as well as it goes."""
    if not version:
        return True
    match = DATED.fullmatch(version)
    pinned = DATED.fullmatch(settings.STRIPE_API_VERSION)
    assert pinned is not None
    return match is not None and match[1] <= pinned[1]

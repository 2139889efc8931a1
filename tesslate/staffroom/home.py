"""The admin's front page: what needs somebody first, then the numbers, then the charts."""

from typing import Any

from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import User
from tesslate.staffroom.attention import attention_for
from tesslate.staffroom.charts import DEFAULT_RANGE, RANGES, Chart, charts
from tesslate.staffroom.dashboard import Figure, figures

# The numbers may be this old; the list of what needs attention is always fresh.
NUMBERS_SECONDS = 30


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK."""
    assert isinstance(request.user, User)
    at = timezone.now()
    chosen = request.GET.get("range", DEFAULT_RANGE)
    chosen = chosen if chosen in RANGES else DEFAULT_RANGE
    may_see_numbers = request.user.has_perm("chatproxy.view_chatrequest")
    numbers: list[Figure] = []
    drawn: list[Chart] = []
    if may_see_numbers:
        numbers = cache.get_or_set("staff:figures", lambda: figures(at), NUMBERS_SECONDS) or []
        drawn = (
            cache.get_or_set(
                f"staff:charts:{chosen}", lambda: charts(at, RANGES[chosen]), NUMBERS_SECONDS
            )
            or []
        )
    return {
        **context,
        "title": "Home",
        "items": attention_for(request.user, at=at),
        "figures": numbers,
        "charts": drawn,
        "ranges": list(RANGES),
        "chosen_range": chosen,
    }

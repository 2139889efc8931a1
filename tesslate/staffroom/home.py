"""The admin's front page: what needs somebody first, then the numbers, then the charts."""

from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from accounts.models import User
from tesslate.lib.caching import remembered
from tesslate.staffroom.attention import attention_for
from tesslate.staffroom.charts import Chart, charts
from tesslate.staffroom.dashboard import Group, groups
from tesslate.staffroom.periods import RANGES, chosen_period

# The numbers may be this old; the list of what needs attention is always fresh.
NUMBERS_SECONDS = 30


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK."""
    assert isinstance(request.user, User)
    at = timezone.now()
    period = chosen_period(request.GET, at)
    may_see_numbers = request.user.has_perm("chatproxy.view_chatrequest")
    numbers: list[Group] = []
    drawn: list[Chart] = []
    if may_see_numbers:
        numbers = remembered("staff:groups", lambda: groups(at), NUMBERS_SECONDS)
        key = f"staff:charts:{period.first}:{period.last}"
        drawn = remembered(key, lambda: charts(period), NUMBERS_SECONDS)
    return {
        **context,
        "title": "Home",
        "items": attention_for(request.user, at=at),
        "groups": numbers,
        "charts": drawn,
        "ranges": RANGES,
        "period": period,
    }

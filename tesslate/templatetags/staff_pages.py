"""What the staff's templates need beyond Django's own filters."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import template
from django.db.models import Q

from chatproxy.models import ChatRequest
from tesslate.staffroom.job_views import tone
from tesslate.staffroom.links import form_of, list_of, page_of
from tesslate.staffroom.models import SavedView
from tesslate.staffroom.saved_views import kept

register = template.Library()
register.filter("page_of", page_of)
register.filter("form_of", form_of)
register.filter("job_tone", tone)

TONES = {
    ChatRequest.Outcome.COMPLETED: "good",
    ChatRequest.Outcome.REFUSED: "warn",
    ChatRequest.Outcome.FAILED: "bad",
    ChatRequest.Outcome.BROKEN: "bad",
}


@register.filter
def outcome_tone(row: ChatRequest) -> str:
    return TONES.get(ChatRequest.Outcome(row.outcome), "")


@register.filter
def small_cost(cost: Decimal | None) -> str:
    """US dollars with as many digits as it takes to see something."""
    if cost is None:
        return "unknown"
    if cost == 0:
        return "$0"
    return f"${cost:.2f}" if cost >= Decimal("0.01") else f"${cost:.6f}".rstrip("0")


@register.filter
def exact_cost(cost: Decimal | None) -> str:
    """US dollars to the millionth, and a dash for nothing."""
    if not cost:
        return "–"
    sign = "-" if cost < 0 else ""
    whole = f"{abs(cost):,.6f}"
    return f"{sign}${whole[:-4]}{whole[-4:].rstrip('0')}"


@dataclass(frozen=True, slots=True)
class SavedViews:
    label: str
    address: str
    # The filters of the list as it is shown now.
    query: str
    views: list[SavedView]

    @property
    def is_kept(self) -> bool:
        return any(view.query == self.query for view in self.views)


@register.simple_tag(takes_context=True)
def saved_views(context: Any) -> SavedViews:
    """The views of this list that its user may choose from."""
    label = context["cl"].opts.label_lower
    request = context["request"]
    mine = Q(owner_id=request.user.pk) | Q(is_shared=True)
    views = SavedView.objects.filter(mine, model=label).select_related("owner")
    return SavedViews(label, list_of(label), kept(request.GET.urlencode()), list(views))


@register.filter
def cents(amount: Decimal) -> str:
    """US dollars to the cent, negative ones too; less than a cent is not shown as nothing."""
    sign = "-" if amount < 0 else ""
    if 0 < abs(amount) < Decimal("0.005"):
        return f"{sign}under $0.01"
    return f"{sign}${abs(amount):,.2f}"

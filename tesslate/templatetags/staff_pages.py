"""What the staff's templates need beyond Django's own filters."""

from decimal import Decimal

from django import template

from chatproxy.models import ChatRequest
from tesslate.staffroom.links import form_of, page_of

register = template.Library()
register.filter("page_of", page_of)
register.filter("form_of", form_of)

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

"""What waits to be done, and for how long: for health, metrics and alerts."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min, Q
from django.utils import timezone

from llmkeys.models import PlanAtGateway, VirtualKey
from llmkeys.models.reconciled import BEHIND
from plans.models import StripeEvent


@dataclass(frozen=True, slots=True)
class Backlog:
    """``stuck`` counts what nobody works on any more until a person looks at it."""

    waiting: int
    oldest_seconds: float
    stuck: int


def inbox_backlog() -> Backlog:
    """Stored Stripe events that nothing has been made of yet."""
    figures = StripeEvent.objects.filter(
        state__in=[StripeEvent.State.PENDING, StripeEvent.State.DEAD]
    ).aggregate(
        waiting=Count("pk", filter=Q(state=StripeEvent.State.PENDING)),
        oldest=Min("received_at", filter=Q(state=StripeEvent.State.PENDING)),
        stuck=Count("pk", filter=Q(state=StripeEvent.State.DEAD)),
    )
    return Backlog(figures["waiting"], _age(figures["oldest"]), figures["stuck"])


def key_backlog() -> Backlog:
    """Keys, and what the keys of a plan share, that the gateway does not yet hold as wanted."""
    waiting, oldest, stuck = 0, None, 0
    for model in (VirtualKey, PlanAtGateway):
        figures = model._default_manager.filter(BEHIND | Q(parked_at__isnull=False)).aggregate(
            waiting=Count("pk", filter=BEHIND),
            oldest=Min("dirty_since", filter=BEHIND),
            stuck=Count("pk", filter=Q(parked_at__isnull=False)),
        )
        waiting += figures["waiting"]
        stuck += figures["stuck"]
        oldest = min(filter(None, (oldest, figures["oldest"])), default=None)
    return Backlog(waiting, _age(oldest), stuck)


def _age(since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (timezone.now() - since).total_seconds())

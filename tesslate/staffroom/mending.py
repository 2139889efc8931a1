"""The buttons of what needs attention: each counts what it will touch, and works as a job."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from llmkeys.models import PlanAtGateway, VirtualKey
from plans.models import StripeEvent
from tesslate.staffroom import jobs
from tesslate.staffroom.caller import staff_user
from tesslate.staffroom.customers_views import require, staff_page
from tesslate.staffroom.lists import MOST_ACTED_ON, SHOWN_TARGETS
from tesslate.staffroom.once import new_submission

BEHIND_FOR = timedelta(minutes=2)
WAITING_FOR = timedelta(minutes=5)

REPLAYING_IS_SAFE = (
    "Each event only makes us read Stripe's present state again, so repeating them is safe."
)
READS_BACK = (
    "Reads what the gateway holds and puts right what differs. Where all is well nothing changes."
)


@dataclass(frozen=True, slots=True)
class Mend:
    """What is wrong, as rows, and the action of their list that mends it."""

    name: str
    label: str
    promise: str
    action: str
    rows: Callable[[datetime], QuerySet[Any]]

    @property
    def url(self) -> str:
        return reverse("admin:mend", args=[self.name])


def dead_events(at: datetime) -> QuerySet[StripeEvent]:
    return StripeEvent.objects.filter(state=StripeEvent.State.DEAD)


def quarantined_events(at: datetime) -> QuerySet[StripeEvent]:
    return StripeEvent.objects.filter(state=StripeEvent.State.QUARANTINED)


def waiting_events(at: datetime) -> QuerySet[StripeEvent]:
    return StripeEvent.objects.filter(
        state=StripeEvent.State.PENDING, received_at__lt=at - WAITING_FOR
    )


def parked_keys(at: datetime) -> QuerySet[VirtualKey]:
    return VirtualKey.live.exclude(parked_at=None)


def keys_behind(at: datetime) -> QuerySet[VirtualKey]:
    return VirtualKey.live.filter(
        generation__gt=F("observed_generation"), parked_at=None, dirty_since__lt=at - BEHIND_FOR
    )


def plans_behind(at: datetime) -> QuerySet[PlanAtGateway]:
    behind = PlanAtGateway.objects.filter(generation__gt=F("observed_generation"))
    return behind.filter(dirty_since__lt=at - BEHIND_FOR) | PlanAtGateway.objects.exclude(
        parked_at=None
    )


MENDS = {
    mend.name: mend
    for mend in (
        Mend("dead-events", "Replay", REPLAYING_IS_SAFE, "replay_selected", dead_events),
        Mend("quarantine", "Replay", REPLAYING_IS_SAFE, "replay_selected", quarantined_events),
        Mend("waiting-events", "Replay", REPLAYING_IS_SAFE, "replay_selected", waiting_events),
        Mend("parked-keys", "Resync", READS_BACK, "resync", parked_keys),
        Mend("keys-behind", "Resync", READS_BACK, "resync", keys_behind),
        Mend("plans-behind", "Resync", READS_BACK, "resync", plans_behind),
    )
}


@require_http_methods(["GET", "POST"])
def mend(request: HttpRequest, name: str) -> HttpResponse:
    """Say how many rows it is about; on the form's return, hand them to a job."""
    chosen = MENDS.get(name)
    if chosen is None:
        raise Http404
    rows = chosen.rows(timezone.now())
    opts = rows.model._meta
    require(request, f"{opts.app_label}.change_{opts.model_name}")
    model_admin = admin.site.get_model_admin(rows.model)
    title = f"{chosen.label} {opts.verbose_name_plural}"
    if request.method == "POST":
        job = jobs.start_action(
            user=staff_user(request),
            model=rows.model,
            action=chosen.action,
            title=title,
            targets=[str(pk) for pk in rows.values_list("pk", flat=True)[:MOST_ACTED_ON]],
            data={},
            submission=request.POST.get("submission", "")[:64] or new_submission(),
        )
        return redirect("admin:job", job_id=job.pk)
    count = min(rows.count(), MOST_ACTED_ON)
    shown = model_admin.get_queryset(request).filter(
        pk__in=list(rows.values_list("pk", flat=True)[:SHOWN_TARGETS])
    )
    return staff_page(
        request,
        "mend.html",
        title=title,
        mend=chosen,
        count=count,
        noun=opts.verbose_name if count == 1 else opts.verbose_name_plural,
        targets=shown,
        more=max(0, count - SHOWN_TARGETS),
        submission=new_submission(),
    )

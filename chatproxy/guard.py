"""The spend guard: notices when somebody's spending leaves their own pattern far behind.

A leaked token or a runaway program spends fast, and its owner hears of it last. Who spends in an
hour several times what their busiest hour of the last weeks cost, and a fair part of the plan's
budget, has their rates lowered, is told by mail, and says with one click whether it was them.
Nothing is taken away: whoever pays keeps the plan and the budget, more slowly.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from smtplib import SMTPException
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.mail import send_mail
from django.db.models import Q, Sum
from django.urls import reverse
from django.utils import timezone

from chatproxy.models import ChatRequest
from llmkeys.models import UsageHour
from plans.models import CurrentEntitlement, Throttle
from plans.throttles import throttle
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)

WINDOW = timedelta(hours=1)
BASELINE = timedelta(days=14)
# Whoever said "it was me" is believed for this long.
BELIEVED = timedelta(hours=24)
LASTS = timedelta(hours=24)
# Between attempts to mail, doubled each time.
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
SALT = "spend-guard"
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Spending:
    """US dollars: of the last hour, of the busiest hour before, and the plan's whole budget."""

    user_id: int
    last_hour: Decimal
    busiest_hour: Decimal
    budget: Decimal


def is_anomalous(spending: Spending, *, factor: int, budget_percent: int) -> bool:
    """Whether the last hour is far beyond the user's own past, and large enough to matter."""
    matters = spending.budget * budget_percent / 100
    return spending.last_hour >= max(matters, CENT) and (
        spending.last_hour > factor * spending.busiest_hour
    )


def watch(*, now: datetime | None = None) -> list[Throttle]:
    """Look at everybody who spent in the last hour; the throttles that were set."""
    if settings.SPEND_GUARD_PERCENT >= 100:
        return []
    now = now or timezone.now()
    found = [
        spending
        for spending in spendings(now)
        if is_anomalous(
            spending,
            factor=settings.SPEND_GUARD_FACTOR,
            budget_percent=settings.SPEND_GUARD_BUDGET_PERCENT,
        )
    ]
    rows = [_throttle(spending, now) for spending in found]
    return [row for row in rows if row is not None]


def spendings(now: datetime) -> Iterable[Spending]:
    """Who spent in the last hour, without those who are throttled or believed already."""
    lately: dict[int, Decimal] = dict(
        ChatRequest.objects.filter(started_at__gt=now - WINDOW, cost__gt=0)
        .order_by()
        .values_list("user_id")
        .annotate(cost=Sum("cost"))
    )
    known = Q(lifted_at=None, ends_at__gt=now)
    believed = Q(answer=Throttle.Answer.MINE, answered_at__gt=now - BELIEVED)
    skipped = set(
        Throttle.objects.filter(known | believed, user_id__in=lately).values_list(
            "user_id", flat=True
        )
    )
    asked = [user_id for user_id in lately if user_id not in skipped]
    before = _busiest_hours(asked, now)
    budgets = dict(
        CurrentEntitlement.objects.filter(user_id__in=asked).values_list(
            "user_id", "plan__budget_cents"
        )
    )
    for user_id in asked:
        if user_id in budgets:
            yield Spending(
                user_id,
                lately[user_id],
                before.get(user_id, Decimal(0)),
                Decimal(budgets[user_id]) / 100,
            )


def _busiest_hours(user_ids: Iterable[int], now: datetime) -> dict[int, Decimal]:
    """From the gateway's books, without the hours that the last sixty minutes lie in."""
    hours = (
        UsageHour.objects.filter(user_id__in=user_ids, hour__gte=now - BASELINE)
        .filter(hour__lte=now - 2 * WINDOW)
        .values("user_id", "hour")
        .annotate(cost=Sum("cost"))
    )
    busiest: dict[int, Decimal] = {}
    for row in hours:
        busiest[row["user_id"]] = max(busiest.get(row["user_id"], Decimal(0)), row["cost"])
    return busiest


def _throttle(spending: Spending, now: datetime) -> Throttle | None:
    evidence = {
        "last_hour": str(spending.last_hour.quantize(CENT)),
        "busiest_hour": str(spending.busiest_hour.quantize(CENT)),
        "budget": str(spending.budget.quantize(CENT)),
    }
    row = throttle(
        user_id=spending.user_id,
        percent=settings.SPEND_GUARD_PERCENT,
        reason=(
            f"${evidence['last_hour']} spent within an hour; "
            f"the busiest hour of the two weeks before cost ${evidence['busiest_hour']}."
        ),
        evidence=evidence,
        ends_at=now + LASTS,
        cause=Cause.system("spend guard"),
    )
    if row is not None:
        logger.warning("Spend guard: limits lowered", extra={"user_id": row.user_id})
    return row


# Telling


def tell_next(*, at: datetime | None = None) -> bool:
    """Mail one owner who is due to be told; False when there is none.

    A mail that fails is tried again, ever later until the throttle ends, after those of others.
    """
    now = at or timezone.now()
    row = (
        Throttle.objects.filter(told_at=None, lifted_at=None, evidence__has_key="last_hour")
        .filter(tell_next_at__lte=now, ends_at__gt=now)
        .select_related("user")
        .order_by("tell_next_at", "pk")
        .first()
    )
    if row is None:
        return False
    # Marked first: told twice is worse than told by the account page alone.
    if not Throttle.objects.filter(pk=row.pk, told_at=None).update(told_at=now):
        return True
    try:
        send_mail(_SUBJECT, _text(row), settings.DEFAULT_FROM_EMAIL, [row.user.email])
    except (SMTPException, OSError, ValueError) as error:
        wait = min(FIRST_WAIT * 2**row.tell_attempts, LONGEST_WAIT)
        Throttle.objects.filter(pk=row.pk).update(
            told_at=None, tell_attempts=row.tell_attempts + 1, tell_next_at=now + wait
        )
        logger.warning("Spend guard: mail not sent: %s", type(error).__name__)
    return True


_SUBJECT = "Your usage has jumped"


def _text(row: Throttle) -> str:
    evidence: Mapping[str, Any] = row.evidence
    return (
        f"Your requests cost ${evidence['last_hour']} within the last hour, far more than ever in "
        f"the two weeks before (at most ${evidence['busiest_hour']} in an hour).\n\n"
        f"To protect you, your requests run at {row.percent} % of your plan's rate until "
        f"{row.ends_at:%Y-%m-%d %H:%M} UTC. Your plan and your budget stay as they are.\n\n"
        "Was it you? One click gives you the full rate back. If it was not, the same page ends all "
        "your sessions and revokes your API tokens:\n"
        f"{settings.PUBLIC_URL}{reverse('site:spend-guard', args=[link_token(row)])}\n"
    )


def link_token(row: Throttle) -> str:
    """What the link in the mail carries. It opens this one question and nothing else."""
    return signing.dumps(row.pk, salt=SALT, compress=False)


def find_by_link(token: str) -> Throttle | None:
    """The throttle that a link asks about; None for a forged link, or one too old to matter."""
    try:
        pk = signing.loads(token, salt=SALT, max_age=LASTS + BELIEVED)
    except signing.BadSignature:
        return None
    return Throttle.objects.select_related("user").filter(pk=pk).first()

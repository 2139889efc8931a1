"""The numbers of the front page, over each app's rows and the hourly roll-up."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import BigIntegerField, Case, Count, F, Max, Min, Q, Sum, When

from llmkeys.models import VirtualKey
from plans.models import Plan, Price, StripeEvent, Subscription
from tesslate.site.money import format_money
from tesslate.staffroom.links import list_of
from tesslate.staffroom.models import HourlyTraffic

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Figure:
    label: str
    value: str
    trend: str = ""
    tone: str = ""  # of the trend: good or bad
    url: str = ""
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    requests: int = 0
    errors: int = 0
    refused: int = 0
    tokens: int = 0
    cost: Decimal = Decimal(0)

    @property
    def error_rate(self) -> float:
        answered = self.requests - self.refused
        return self.errors / answered if answered else 0.0


def traffic_between(start: datetime, end: datetime) -> Traffic:
    found = HourlyTraffic.objects.filter(hour__gte=start, hour__lt=end).aggregate(
        requests=Sum("requests", default=0),
        errors=Sum("errors", default=0),
        refused=Sum("refused", default=0),
        tokens=Sum(F("prompt_tokens") + F("completion_tokens"), default=0),
        cost=Sum("cost", default=Decimal(0)),
    )
    return Traffic(**found)


def monthly_revenue_cents() -> int:
    """What running subscriptions bring a month, in US cents: yearly ones by the twelfth."""
    paying = Subscription.objects.filter(
        status__in=["active", "past_due"], price__currency="usd", collection_paused=False
    )
    month = F("price__unit_amount") * F("quantity")
    total = paying.aggregate(
        cents=Sum(
            Case(
                When(price__interval=Price.Interval.YEAR, then=month / 12),
                default=month,
                output_field=BigIntegerField(),
            )
        )
    )
    return int(total["cents"] or 0)


def users_by_plan() -> list[tuple[Plan, int, int]]:
    """Each plan with all its users, and those of them who pay for it (or whose team does)."""
    paid = Q(entitlements__source__in=["subscription", "organization"])
    plans = Plan.objects.annotate(
        users=Count("entitlements"), paying=Count("entitlements", filter=paid)
    )
    return [(plan, plan.users, plan.paying) for plan in plans.order_by("rank")]


def figures(at: datetime) -> list[Figure]:
    return [*_business(at), *_traffic(at), *_machinery(at)]


def _business(at: datetime) -> list[Figure]:
    plans = users_by_plan()
    paying = sum(count for _, _, count in plans)
    revenue = monthly_revenue_cents()
    spend = traffic_between(at - 30 * DAY, at).cost
    before = traffic_between(at - 60 * DAY, at - 30 * DAY).cost
    margin = round(Decimal(revenue) / 100 - spend, 2)
    mix = ", ".join(f"{count:,} {plan.name}" for plan, count, _ in plans if count)
    return [
        Figure("Customers paying", f"{paying:,}", mix, url=list_of("plans.subscription")),
        Figure("Monthly revenue", format_money(revenue // 100 * 100), "running subscriptions"),
        Figure("Spend, 30 days", f"${spend:,.2f}", *_trend(spend, before, more_is_good=False)),
        Figure(
            "Margin, 30 days",
            f"{'-' if margin < 0 else ''}${abs(margin):,.2f}",
            "revenue less spend",
            alarm=margin < 0,
        ),
    ]


def _traffic(at: datetime) -> list[Figure]:
    # Whole hours: the one that runs counts as far as it has come.
    today = traffic_between(at - DAY, at)
    yesterday = traffic_between(at - 2 * DAY, at - DAY)
    requests = list_of("chatproxy.chatrequest")
    errors = list_of("chatproxy.chatrequest", "outcome__exact=failed")
    return [
        Figure(
            "Requests, 24 h",
            f"{today.requests:,}",
            *_trend(today.requests, yesterday.requests),
            url=requests,
        ),
        Figure("Tokens, 24 h", _short(today.tokens), *_trend(today.tokens, yesterday.tokens)),
        Figure(
            "Spend, 24 h",
            f"${today.cost:,.2f}",
            *_trend(today.cost, yesterday.cost, more_is_good=False),
        ),
        Figure(
            "Error rate, 24 h",
            f"{today.error_rate:.1%}",
            f"{today.errors:,} failed, {today.refused:,} refused",
            url=errors,
            alarm=today.error_rate > 0.05,
        ),
    ]


def _machinery(at: datetime) -> list[Figure]:
    behind = VirtualKey.live.filter(
        generation__gt=F("observed_generation"), parked_at=None
    ).aggregate(count=Count("pk"), since=Min("dirty_since"))
    failed = StripeEvent.objects.filter(state__in=["dead", "quarantined"]).count()
    waiting = StripeEvent.objects.filter(state="pending").aggregate(
        count=Count("pk"), since=Min("received_at")
    )
    parked = VirtualKey.live.exclude(parked_at=None).count()
    audited = VirtualKey.live.aggregate(at=Max("audited_at"))["at"]
    return [
        Figure(
            "Keys behind",
            f"{behind['count']:,}",
            _lag(behind["since"], at) or "all in step",
            url=list_of("llmkeys.virtualkey"),
        ),
        Figure(
            "Keys given up",
            f"{parked:,}",
            f"audited {_ago(audited, at)}" if audited else "not audited yet",
            alarm=parked > 0,
            url=list_of("llmkeys.virtualkey"),
        ),
        Figure(
            "Webhooks waiting",
            f"{waiting['count']:,}",
            _lag(waiting["since"], at) or "none waits",
            url=list_of("plans.stripeevent", "state__exact=pending"),
        ),
        Figure(
            "Webhooks failed",
            f"{failed:,}",
            "dead or in quarantine",
            alarm=failed > 0,
            url=list_of("plans.stripeevent", "state__exact=dead"),
        ),
    ]


def _trend(now: Any, before: Any, *, more_is_good: bool = True) -> tuple[str, str]:
    if not before:
        return ("", "")
    change = float(now) / float(before) - 1
    if abs(change) < 0.005:
        return ("as before", "")
    tone = "good" if (change > 0) == more_is_good else "bad"
    return (f"{change:+.0%} on the time before", tone)


def _lag(since: datetime | None, at: datetime) -> str:
    return f"oldest for {_ago(since, at, suffix='')}" if since else ""


def _ago(moment: datetime, at: datetime, suffix: str = " ago") -> str:
    seconds = max(0, int((at - moment).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}{suffix}"
    return f"{seconds} s{suffix}"


def _short(number: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            return f"{number / (size if unit != 'k' else 1000):.1f}{unit}"
    return f"{number:,}"

"""The numbers of the front page, over each app's rows and the hourly roll-up."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import BigIntegerField, Case, Count, F, Min, Q, Sum, When

from llmkeys.drift import drift_now
from llmkeys.models import VirtualKey
from plans.models import Plan, Price, StripeEvent, Subscription
from tesslate.site.money import format_money
from tesslate.staffroom.links import list_of
from tesslate.staffroom.models import HourlyTraffic
from tesslate.staffroom.periods import DAY, midnight, same_time_last_month

ALARMING_ERROR_RATE = 0.05


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


RUNNING = Q(status__in=["active", "past_due"], collection_paused=False)


def monthly_revenue_cents() -> int:
    """What running subscriptions bring a month, in US cents: yearly ones by the twelfth."""
    return _monthly_cents(RUNNING)


def _monthly_cents(which: Q) -> int:
    month = F("price__unit_amount") * F("quantity")
    total = Subscription.objects.filter(which, price__currency="usd").aggregate(
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


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    note: str
    figures: list[Figure]


def groups(at: datetime) -> list[Group]:
    today, month = midnight(at.date()), midnight(at.date().replace(day=1))
    now = traffic_between(today, at)
    this_month = traffic_between(month, at)
    before = traffic_between((month - DAY).replace(day=1), same_time_last_month(at))
    return [
        Group("Customers", "", _business(at)),
        Group(
            "Today",
            "since midnight UTC, against yesterday up to this hour",
            _today(now, traffic_between(today - DAY, at - DAY)),
        ),
        Group(
            "This month",
            "against last month up to this day and hour",
            _month(this_month, before),
        ),
        Group("Machinery", "now", _machinery(at)),
    ]


def _business(at: datetime) -> list[Figure]:
    plans = users_by_plan()
    paying = sum(count for _, _, count in plans)
    revenue = monthly_revenue_cents()
    spend = traffic_between(at - 30 * DAY, at).cost
    margin = round(Decimal(revenue) / 100 - spend, 2)
    mix = ", ".join(f"{count:,} {plan.name}" for plan, count, _ in plans if count)
    gained, lost = revenue_changes(at - 30 * DAY)
    change = f"{_dollars(gained)} new, {_dollars(lost)} lost in 30 days"
    tone = "" if gained == lost else "good" if gained > lost else "bad"
    return [
        Figure(
            "Customers",
            f"{sum(users for _, users, _ in plans):,}",
            mix,
            url=list_of("accounts.user"),
        ),
        Figure(
            "Paying",
            f"{paying:,}",
            "themselves or by their team",
            url=list_of("plans.subscription"),
        ),
        Figure("Monthly revenue", _dollars(revenue), change, tone, list_of("plans.subscription")),
        Figure(
            "Margin, 30 days",
            f"{'-' if margin < 0 else ''}${abs(margin):,.2f}",
            f"after ${spend:,.2f} spend",
            alarm=margin < 0,
        ),
    ]


def revenue_changes(since: datetime) -> tuple[int, int]:
    """US cents a month that came with subscriptions begun since, and went with those ended."""
    ended = Q(status="canceled", ended_at__gte=since)
    gained = _monthly_cents(RUNNING & Q(started_at__gte=since))
    return gained, _monthly_cents(ended & Q(started_at__lt=since))


def _dollars(cents: int) -> str:
    return format_money(cents // 100 * 100)


def _today(now: Traffic, before: Traffic) -> list[Figure]:
    requests = list_of("chatproxy.chatrequest")
    errors = list_of("chatproxy.chatrequest", "outcome__exact=failed")
    refused = list_of("chatproxy.chatrequest", "outcome__exact=refused")
    return [
        *_usage(now, before, requests),
        Figure(
            "Error rate",
            f"{now.error_rate:.1%}",
            f"{now.errors:,} of {now.requests - now.refused:,} failed",
            url=errors,
            alarm=now.error_rate > ALARMING_ERROR_RATE,
        ),
        Figure(
            "Refused",
            f"{now.refused:,}",
            *_trend(now.refused, before.refused, more_is_good=False),
            refused,
        ),
    ]


def _month(now: Traffic, before: Traffic) -> list[Figure]:
    return _usage(now, before, list_of("chatproxy.chatrequest"))


def _usage(now: Traffic, before: Traffic, url: str) -> list[Figure]:
    return [
        Figure("Requests", f"{now.requests:,}", *_trend(now.requests, before.requests), url),
        Figure("Tokens", _short(now.tokens), *_trend(now.tokens, before.tokens)),
        Figure("Spend", f"${now.cost:,.2f}", *_trend(now.cost, before.cost, more_is_good=False)),
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
    drift = drift_now()
    audited = None if drift.run is None else drift.run.finished_at
    others = f", {drift.foreign:,} not ours" if drift.foreign else ""
    return [
        Figure(
            "Keys behind",
            f"{behind['count']:,}",
            _lag(behind["since"], at) or "all in step",
            url=list_of("llmkeys.virtualkey", "in_step=no"),
        ),
        Figure(
            "Keys given up",
            f"{parked:,}",
            "after errors",
            alarm=parked > 0,
            url=list_of("llmkeys.virtualkey", "in_step=stuck"),
        ),
        Figure(
            "Drift",
            f"{drift.changed + drift.posing:,}",
            f"audited {_ago(audited, at)}{others}" if audited else "not audited yet",
            alarm=drift.changed + drift.posing > 0,
            url=list_of("llmkeys.auditfinding"),
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
    return (f"{change:+.0%}", tone)


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

"""Everything about one customer, read for one page."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Q, Sum
from django.utils import timezone

from accounts.models import AuditEntry, Membership, User
from chatproxy.models import ChatRequest
from chatproxy.selectors import Totals, usage_in_period
from llmkeys.models import KeyEvent, VirtualKey
from plans.models import CurrentEntitlement, Customer, PlanGrant, StripeEvent, Subscription
from plans.selectors import current_entitlement
from tesslate.site.account import budget
from tesslate.staffroom.links import at_stripe, list_of, page_of
from tesslate.staffroom.models import CustomerNote

UNSET = "–"
RECENT_REQUESTS = 15
TIMELINE = 30
RECENTLY = timedelta(days=30)
TROUBLES = 5
# Outcome, error code, how often, when last.
Trouble = tuple[str, str, int, datetime]


@dataclass(frozen=True, slots=True)
class Step:
    """One step from what was bought to what the gateway holds."""

    title: str
    detail: str
    tone: str = ""  # good, warn, bad
    at: datetime | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    words: str
    percent: int

    @property
    def tone(self) -> str:
        return "bad" if self.percent >= 100 else "warn" if self.percent >= 80 else ""


@dataclass(frozen=True, slots=True)
class KeyField:
    name: str
    desired: str
    observed: str

    @property
    def differs(self) -> bool:
        return self.desired != self.observed


@dataclass(frozen=True, slots=True)
class KeyPanel:
    key: VirtualKey
    fields: list[KeyField]

    @property
    def state(self) -> tuple[str, str]:
        """A word and its tone."""
        if self.key.lifecycle == VirtualKey.Lifecycle.RETIRED:
            return "Retired", ""
        if self.key.blocked_at is not None:
            return "Blocked", "bad"
        if self.key.parked_at is not None:
            return "Parked after errors", "bad"
        if not self.key.is_in_step:
            return "Behind", "warn"
        if self.key.lifecycle == VirtualKey.Lifecycle.RETIRING:
            return "Retiring", "warn"
        return "In step", "good"


@dataclass(frozen=True, slots=True)
class Happening:
    at: datetime
    what: str
    detail: str = ""
    tone: str = ""
    url: str = ""


@dataclass(slots=True)
class CustomerPage:
    user: User
    entitlement: CurrentEntitlement
    payer: Customer | None
    memberships: list[Membership]
    subscriptions: list[Subscription]
    grants: list[PlanGrant]
    keys: list[KeyPanel]
    spent: Totals
    bars: list[Bar]
    requests: list[ChatRequest]
    timeline: list[Happening]
    troubles: list[Trouble]
    notes: list[CustomerNote]
    chain: list[Step] = field(default_factory=list)

    @property
    def stripe_url(self) -> str:
        return at_stripe("customers", self.payer.stripe_customer_id) if self.payer else ""

    @property
    def state(self) -> tuple[str, str]:
        if self.user.deleted_at is not None:
            return "Account closed", "bad"
        if self.user.suspended_at is not None:
            return "Suspended", "bad"
        if not self.user.is_active:
            return "Switched off", "bad"
        if self.entitlement.grace_ends_at is not None:
            return "In grace", "warn"
        return "Active", "good"


def customer_page(user: User, *, at: datetime | None = None) -> CustomerPage:
    """A fixed number of queries, whatever the customer has done."""
    at = at or timezone.now()
    entitlement = current_entitlement(user)
    payer = Customer.objects.filter(user=user).first()
    subscriptions = list(
        Subscription.objects.filter(customer=payer).select_related("price__plan")[:10]
        if payer
        else []
    )
    keys = [
        KeyPanel(key, key_fields(key))
        for key in VirtualKey.objects.filter(user=user).order_by("-created_at")[:6]
    ]
    spent = usage_in_period(user, entitlement.period_start, at)
    page = CustomerPage(
        user=user,
        entitlement=entitlement,
        payer=payer,
        memberships=list(Membership.objects.filter(user=user).select_related("organization")),
        subscriptions=subscriptions,
        grants=list(PlanGrant.objects.filter(user=user).select_related("plan", "granted_by")[:10]),
        keys=keys,
        spent=spent,
        bars=usage_bars(user, entitlement, spent, at),
        requests=list(
            ChatRequest.objects.filter(user=user, started_at__gte=at - RECENTLY)[:RECENT_REQUESTS]
        ),
        timeline=timeline(user, payer),
        troubles=troubles([user.pk], at - RECENTLY),
        notes=list(CustomerNote.objects.filter(user=user).select_related("author")[:20]),
    )
    page.chain = chain(page)
    return page


def usage_bars(
    user: User, entitlement: CurrentEntitlement, spent: Totals, at: datetime
) -> list[Bar]:
    plan = entitlement.plan
    minute = ChatRequest.objects.filter(
        user=user, started_at__gte=at - timedelta(minutes=1)
    ).aggregate(
        requests=Count("pk"), prompt=Sum("prompt_tokens"), completion=Sum("completion_tokens")
    )
    tokens = (minute["prompt"] or 0) + (minute["completion"] or 0)
    allowed = budget(entitlement)
    rpm = plan.rpm * entitlement.limit_percent // 100
    tpm = plan.tpm * entitlement.limit_percent // 100
    return [
        Bar(
            "Budget this period",
            f"${spent.cost:,.2f} of ${allowed:,.2f}",
            _percent(spent.cost, allowed),
        ),
        Bar(
            "Requests, last minute",
            f"{minute['requests']:,} of {rpm:,}",
            _percent(minute["requests"], rpm),
        ),
        Bar("Tokens, last minute", f"{tokens:,} of {tpm:,}", _percent(tokens, tpm)),
    ]


def _percent(used: int | Decimal, allowed: int | Decimal) -> int:
    return round(100 * used / allowed) if allowed else 100


def key_fields(key: VirtualKey) -> list[KeyField]:
    """Desired and observed side by side, field by field; neither holds a secret."""
    desired: dict[str, Any] = key.desired or {}
    observed: dict[str, Any] = key.observed or {}
    names = [*desired, *(name for name in observed if name not in desired)]
    fields = [
        KeyField(name, _words(desired.get(name)), _words(observed.get(name))) for name in names
    ]
    return [each for each in fields if each.desired != UNSET or each.observed != UNSET]


def _words(value: Any) -> str:
    match value:
        case None:
            return UNSET
        case list():
            return ", ".join(_words(item) for item in value) or "none"
        case dict():
            return ", ".join(f"{name}: {_words(inner)}" for name, inner in sorted(value.items()))
        case _:
            return str(value)


# What moved a subscription, or repeated where it stands; and what may have, and was never heard.
TOLD = Q(state=StripeEvent.State.PROCESSED, outcome__startswith="subscription.")
UNHEARD = Q(state__in=[StripeEvent.State.DEAD, StripeEvent.State.QUARANTINED])


def chain(page: CustomerPage) -> list[Step]:
    """Stripe's word → subscription and grants → entitlement → key → gateway."""
    steps: list[Step] = []
    if page.payer is not None and page.payer.stripe_customer_id:
        event = (
            StripeEvent.objects.filter(
                TOLD | UNHEARD, stripe_customer_id=page.payer.stripe_customer_id
            )
            .defer("payload")
            .first()
        )
        if event is not None:
            tone = "good" if event.state == StripeEvent.State.PROCESSED else "bad"
            steps.append(
                Step(
                    f"Stripe: {event.type}",
                    f"{event.get_state_display()}. {event.outcome}".strip(". "),
                    tone,
                    event.received_at,
                    page_of(event),
                )
            )
    rows = _rows_of_reasons(page)
    steps += [_reason_step(reason, rows) for reason in page.entitlement.reasons]
    entitlement = page.entitlement
    limits = "" if entitlement.limit_percent == 100 else f", {entitlement.limit_percent}% of limits"
    steps.append(
        Step(
            f"Entitled to {entitlement.plan.name}",
            f"{entitlement.get_source_display()}{limits}, version {entitlement.version}",
            "good",
            entitlement.decided_at,
            page_of(entitlement.plan),
        )
    )
    steps += [step for panel in page.keys for step in _key_steps(panel)]
    if not page.keys:
        steps.append(Step("No key yet", "It is made when the user first appears.", "warn"))
    return steps


SOURCE_TITLES = {**dict(CurrentEntitlement.Source.choices), "throttle": "Throttled"}


def _rows_of_reasons(page: CustomerPage) -> dict[tuple[str, int | None], Any]:
    """By a reason's source and source_id."""
    return {
        **{("subscription", row.pk): row for row in page.subscriptions},
        **{("grant", row.pk): row for row in page.grants},
        **{("throttle", row.pk): row for row in page.user.throttles.filter(lifted_at=None)},
    }


def _reason_step(reason: dict[str, Any], rows: dict[tuple[str, int | None], Any]) -> Step:
    row = rows.get((reason["source"], reason["source_id"]))
    tone = "good" if reason.get("won") else "" if reason["counts"] else "warn"
    at = row.read_at if isinstance(row, Subscription) else getattr(row, "created_at", None)
    title = SOURCE_TITLES[reason["source"]]
    return Step(title, reason["text"], tone, at, page_of(row) if row is not None else "")


def _key_steps(panel: KeyPanel) -> list[Step]:
    key = panel.key
    if key.lifecycle == VirtualKey.Lifecycle.RETIRED:
        return []
    word, tone = panel.state
    detail = f"generation {key.generation}, observed {key.observed_generation}"
    steps = [
        Step(
            f"Key …{key.last_four}: {word.lower()}",
            f"{detail}. {key.last_error}" if key.last_error else detail,
            tone,
            key.dirty_since,
            page_of(key),
        )
    ]
    if key.synced_at is not None:
        obeyed = f", obeyed {key.enforced_at:%H:%M:%S}" if key.enforced_at else ""
        differing = [each.name for each in panel.fields if each.differs]
        steps.append(
            Step(
                "Gateway",
                f"holds it{obeyed}" + (f"; differs in {', '.join(differing)}" if differing else ""),
                "warn" if differing else "good",
                key.synced_at,
                page_of(key),
            )
        )
    return steps


def timeline(user: User, payer: Customer | None) -> list[Happening]:
    """What Stripe told, what staff and clocks did, what the gateway was told; newest first."""
    entries = AuditEntry.objects.filter(user=user).select_related("actor")[:TIMELINE]
    happenings = [*stripe_happenings(payer), *audit_happenings(entries)]
    for key_event in KeyEvent.objects.filter(key__user=user)[:TIMELINE]:
        tone = "" if key_event.outcome == KeyEvent.Outcome.DONE else "warn"
        happenings.append(
            Happening(key_event.at, f"key {key_event.action}", key_event.message, tone)
        )
    happenings.sort(key=lambda happening: happening.at, reverse=True)
    return happenings[:TIMELINE]


def stripe_happenings(payer: Customer | None) -> list[Happening]:
    """What Stripe told about a payer, newest first."""
    if payer is None or not payer.stripe_customer_id:
        return []
    events = StripeEvent.objects.filter(stripe_customer_id=payer.stripe_customer_id)
    return [
        Happening(
            event.received_at,
            event.type,
            event.outcome,
            "bad" if event.state in {"dead", "quarantined"} else "",
            page_of(event),
        )
        for event in events.defer("payload")[:TIMELINE]
    ]


def audit_happenings(entries: Iterable[AuditEntry]) -> list[Happening]:
    """What was done, by whom and why."""
    found = []
    for entry in entries:
        who = str(entry.actor) if entry.actor else str(entry.cause)
        detail = " · ".join(part for part in (who, entry.reason) if part)
        found.append(Happening(entry.at, entry.action, detail, "", page_of(entry)))
    return found


def troubles(user_ids: list[int], since: datetime) -> list[Trouble]:
    """What refused or broke requests, the most frequent first: outcome, code, how often, when
    last."""
    bad = (ChatRequest.Outcome.REFUSED, ChatRequest.Outcome.FAILED, ChatRequest.Outcome.BROKEN)
    rows = (
        ChatRequest.objects.filter(user_id__in=user_ids, started_at__gte=since, outcome__in=bad)
        .order_by()
        .values("outcome", "error_code")
        .annotate(times=Count("id"), last=Max("started_at"))
        .order_by("-times")[:TROUBLES]
    )
    return [
        (ChatRequest.Outcome(row["outcome"]).label, row["error_code"], row["times"], row["last"])
        for row in rows
    ]


def requests_list(user: User) -> str:
    return list_of("chatproxy.chatrequest", f"user__id__exact={user.pk}")

"""What somebody has to look at: each item says what, who, since when, and what mends it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from llmkeys.drift import (
    ABOUT_OUR_KEYS,
    FOREIGN,
    POSING_AS_OURS,
    drift_now,
    findings_now,
    first_seen,
)
from llmkeys.models import GatewayState, KillSwitch, VirtualKey
from plans.models import BillingProblem, CurrentEntitlement, Plan, Subscription, Throttle
from plans.problems import odd_subscriptions, overdue_reconciliation, stray_events
from tesslate.staffroom.links import customer_page, list_of, page_of
from tesslate.staffroom.mending import MENDS, Mend, keys_behind, parked_keys, plans_behind

GRACE_ENDS_WITHIN = timedelta(days=3)
SHOWN_PER_KIND = 5


@dataclass(frozen=True, slots=True)
class Item:
    level: str  # bad: somebody is hurt now; warn: somebody will be
    what: str
    who: str
    since: datetime | None
    # The button: its words, where it leads, and the permission that it takes.
    act: str
    url: str
    permission: str
    # A button that mends it, for those whose role lets them.
    mend: Mend | None = None


def attention_for(user: User, *, at: datetime | None = None) -> list[Item]:
    """What this member of staff may see, the worst and oldest first."""
    at = at or timezone.now()
    items = [
        item if item.mend is None or _may_mend(user, item) else replace(item, mend=None)
        for source, permission in SOURCES
        if user.has_perm(permission)
        for item in source(at)
        if item.url
    ]
    return sorted(items, key=lambda item: (item.level != "bad", item.since or at))


def _may_mend(user: User, item: Item) -> bool:
    return user.has_perm(item.permission.replace(".view_", ".change_"))


def _gateway(at: datetime) -> Iterator[Item]:
    for state in GatewayState.objects.exclude(opened_at=None):
        yield Item(
            "bad",
            f"The gateway {state.get_reason_display().lower()}",
            state.detail or state.url,
            state.opened_at,
            "Look",
            page_of(state),
            "llmkeys.view_gatewaystate",
        )


def _events(at: datetime) -> Iterator[Item]:
    groups = (
        ("bad", "Stripe events failed for good", "dead-events", "state__exact=dead"),
        ("warn", "Stripe events in quarantine", "quarantine", "state__exact=quarantined"),
        ("bad", "Stripe events wait too long", "waiting-events", "state__exact=pending"),
    )
    for level, what, name, query in groups:
        mend = MENDS[name]
        found = mend.rows(at).aggregate(
            count=Count("pk"), since=Min("received_at"), kind=Max("type")
        )
        if found["count"]:
            yield Item(
                level,
                what,
                _counted(found["count"], "event", found["kind"]),
                found["since"],
                "Look",
                list_of("plans.stripeevent", query),
                "plans.view_stripeevent",
                mend,
            )


def _unmapped_prices(at: datetime) -> Iterator[Item]:
    unmapped = (
        Subscription.objects.filter(price=None, ended_at=None)
        .exclude(stripe_price_id="")
        .values("stripe_price_id")
        .annotate(count=Count("pk"), since=Min("created_at"))
        .order_by("since")[:SHOWN_PER_KIND]
    )
    for row in unmapped:
        price = row["stripe_price_id"]
        yield Item(
            "bad",
            f"Price {price} belongs to no plan",
            _counted(row["count"], "subscription"),
            row["since"],
            "Map it",
            reverse("admin:map-price", args=[price]),
            "plans.view_price",
        )


ODDITIES = {
    "unknown_status": ("bad", "A subscription has a status we do not know", "plans.subscription"),
    "closed_account_pays": (
        "bad",
        "A closed account or empty organization still pays",
        "plans.subscription",
    ),
    "two_subscriptions": ("warn", "A customer pays two subscriptions", "plans.customer"),
    "wrong_mode": ("bad", "Events of Stripe's other mode arrive", "plans.stripeevent"),
    "wrong_account": ("bad", "Events of another Stripe account arrive", "plans.stripeevent"),
    "not_reconciled": ("bad", "Billing is not compared with Stripe", "plans.billingreconciliation"),
}


def _oddities(at: datetime) -> Iterator[Item]:
    """What billing reads from its own rows: gone when its cause is."""
    for problem in (*odd_subscriptions(), *stray_events(), *overdue_reconciliation()):
        level, what, label = ODDITIES[problem.kind]
        search = "outcome__exact" if label == "plans.stripeevent" else "q"
        query = f"{search}={problem.subject}" if problem.subject else ""
        yield Item(
            level,
            what,
            problem.summary,
            problem.since,
            "Look",
            list_of(label, query),
            "plans.view_billingproblem",
        )


def _problems(at: datetime) -> Iterator[Item]:
    problems = BillingProblem.objects.filter(resolved_at=None).select_related("customer__user")
    for problem in problems.order_by("first_seen_at")[:SHOWN_PER_KIND]:
        payer = f" · {problem.customer}" if problem.customer else ""
        yield Item(
            "warn",
            problem.get_kind_display(),
            f"{problem.summary}{payer}",
            problem.first_seen_at,
            "Look",
            page_of(problem),
            "plans.view_billingproblem",
        )


def _keys(at: datetime) -> Iterator[Item]:
    not_obeyed = VirtualKey.live.exclude(enforcement_alarm_at=None).filter(probe_for__isnull=False)
    groups: tuple[tuple[str, str, QuerySet[VirtualKey], str, str], ...] = (
        ("bad", "Keys given up after errors", parked_keys(at), "parked_at", "parked-keys"),
        ("bad", "The gateway still lets in whom it should not", not_obeyed, "probe_since", ""),
        ("warn", "Keys behind their plan", keys_behind(at), "dirty_since", "keys-behind"),
    )
    for level, what, keys, since, name in groups:
        found = keys.aggregate(count=Count("pk"), since=Min(since), first=Min("pk"))
        if not found["count"]:
            continue
        first = VirtualKey.objects.select_related("user").get(pk=found["first"])
        one = found["count"] == 1
        yield Item(
            level,
            what,
            _counted(found["count"], "key", f"{first.user} …{first.last_four}"),
            found["since"],
            "Look",
            customer_page(first.user_id) if one else list_of("llmkeys.virtualkey"),
            "llmkeys.view_virtualkey",
            MENDS.get(name),
        )


def _plans_at_gateway(at: datetime) -> Iterator[Item]:
    for row in plans_behind(at).select_related("plan"):
        yield Item(
            "bad",
            f"The gateway does not hold {row.plan} as it is",
            row.last_error or "Waiting for a worker",
            row.parked_at or row.dirty_since,
            "Look",
            page_of(row),
            "llmkeys.view_planatgateway",
            MENDS["plans-behind"],
        )


def _drift(at: datetime) -> Iterator[Item]:
    drift = drift_now()
    for level, what, count, kinds in (
        ("bad", "Keys pose as ours and are not", drift.posing, POSING_AS_OURS),
        ("warn", "Keys changed or lost behind our back", drift.changed, ABOUT_OUR_KEYS),
        ("warn", "Keys that we did not make, and nobody vouches for", drift.foreign, (FOREIGN,)),
    ):
        if count:
            first = findings_now().filter(kind__in=kinds).select_related("key").last()
            example = "" if first is None else first.called
            query = f"kind__exact={kinds[0]}" if len(kinds) == 1 else ""
            yield Item(
                level,
                what,
                _counted(count, "key", example),
                first_seen(kinds),
                "Look",
                list_of("llmkeys.auditfinding", query),
                "llmkeys.view_auditfinding",
            )


def _switches(at: datetime) -> Iterator[Item]:
    in_force = KillSwitch.objects.filter(lifted_at=None).select_related(
        "gateway_model", "plan", "user"
    )
    for switch in in_force[:SHOWN_PER_KIND]:
        yield Item(
            "warn",
            f"Switched off: {switch}",
            switch.reason,
            switch.pulled_at,
            "Lift",
            page_of(switch),
            "llmkeys.view_killswitch",
        )


def _throttles(at: datetime) -> Iterator[Item]:
    """A spend that jumped: somebody's success, or somebody's stolen token."""
    rows = Throttle.objects.filter(lifted_at=None, ends_at__gt=at).select_related("user")
    for row in rows.order_by("begun_at")[:SHOWN_PER_KIND]:
        denied = row.answer == Throttle.Answer.NOT_MINE
        yield Item(
            "bad" if denied else "warn",
            "A customer says: it was not me" if denied else f"Throttled: {row.reason}",
            str(row.user),
            row.begun_at,
            "Look",
            customer_page(row.user_id),
            "plans.view_throttle",
        )


def _grace(at: datetime) -> Iterator[Item]:
    ending = (
        CurrentEntitlement.objects.filter(
            grace_ends_at__gt=at, changes_at__lte=at + GRACE_ENDS_WITHIN
        )
        .select_related("user", "plan")
        .order_by("grace_ends_at")
    )
    for row in ending[:SHOWN_PER_KIND]:
        assert row.grace_ends_at is not None
        yield Item(
            "warn",
            f"Grace ends {row.grace_ends_at:%d %b %H:%M}: {row.plan} is about to be lost",
            str(row.user),
            row.decided_at,
            "Open",
            customer_page(row.user_id),
            "accounts.view_user",
        )


def _catalogue(at: datetime) -> Iterator[Item]:
    plans = Plan.objects.filter(archived_at=None, is_public=True).annotate(
        sold=Count("prices", filter=Q(prices__archived_at=None), distinct=True),
        published=Count(
            "prices",
            filter=Q(prices__archived_at=None, prices__stripe_price_id__isnull=False),
            distinct=True,
        ),
        models=Count("gateway_models", filter=Q(gateway_models__disabled_at=None), distinct=True),
    )
    for plan in plans:
        for is_wrong, what in (
            (not plan.models, "has no model that works"),
            (not plan.is_default and not plan.sold, "is on the price list without a price"),
            (plan.sold > plan.published, "has a price that Stripe does not know yet"),
        ):
            if is_wrong:
                yield Item(
                    "warn",
                    f"{plan} {what}",
                    plan.code,
                    None,
                    "Edit",
                    page_of(plan),
                    "plans.view_plan",
                )


def _counted(count: int, noun: str, example: str = "") -> str:
    words = f"{count:,} {noun}{'' if count == 1 else 's'}"
    if not example:
        return words
    return example if count == 1 else f"{words}, the first: {example}"


Source = Callable[[datetime], Iterator[Item]]
SOURCES: tuple[tuple[Source, str], ...] = (
    (_gateway, "llmkeys.view_gatewaystate"),
    (_events, "plans.view_stripeevent"),
    (_unmapped_prices, "plans.view_price"),
    (_oddities, "plans.view_billingproblem"),
    (_problems, "plans.view_billingproblem"),
    (_keys, "llmkeys.view_virtualkey"),
    (_plans_at_gateway, "llmkeys.view_planatgateway"),
    (_drift, "llmkeys.view_auditfinding"),
    (_switches, "llmkeys.view_killswitch"),
    (_throttles, "plans.view_throttle"),
    (_grace, "accounts.view_user"),
    (_catalogue, "plans.view_plan"),
)

"""The decision behind every entitlement: facts and a moment in, a plan and its reasons out.

Nothing here reads the database, the network or the clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from plans.access import ACCESS_BY_STATUS, MEANINGS, Access
from plans.models import CurrentEntitlement, Plan
from plans.windows import Window, month_window, window_within

Source = CurrentEntitlement.Source

# Which source is named when two give plans of one rank and equal limits.
PREFERENCE = (Source.SUBSCRIPTION, Source.ORGANIZATION, Source.GRANT, Source.DEFAULT)


@dataclass(frozen=True, slots=True)
class Seat:
    """A member's place in an organization: position 1 is whoever joined first."""

    membership_id: int
    organization: str
    position: int


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """One subscription as last read; ``plan`` is that of its price, or of the last mapped one."""

    id: int
    status: str
    plan: Plan | None
    # Stripe's word was unknown: the last known one stands in `status`.
    unknown_status: str = ""
    price_is_mapped: bool = True
    quantity: int = 1
    period: Window | None = None
    trial_end: datetime | None = None
    ends_at: datetime | None = None
    past_due_since: datetime | None = None
    awaits_payment: bool = False
    # Set for an organization's subscription.
    seat: Seat | None = None


@dataclass(frozen=True, slots=True)
class GrantFacts:
    id: int
    plan: Plan
    starts_at: datetime
    ends_at: datetime
    reason: str = ""
    organization: str = ""


@dataclass(frozen=True, slots=True)
class ThrottleFacts:
    id: int
    percent: int
    ends_at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    default_plan: Plan
    joined_at: datetime
    subscriptions: tuple[SubscriptionFacts, ...] = ()
    grants: tuple[GrantFacts, ...] = ()
    # Not lifted; one whose time is over no longer counts.
    throttles: tuple[ThrottleFacts, ...] = ()
    # A closed account keeps only the default plan, whatever still runs at Stripe.
    account_closed: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """One link of the chain that staff read: what was considered and why it counts or not.

    ``code`` is stable: default, trialing, active, grace, grace_over, ended, no_seat,
    awaiting_payment, unmapped_price, grant, grant_not_started, grant_over, account_closed,
    throttled, or ``status:`` and the status that gives nothing.
    """

    source: str
    source_id: int | None
    plan: str | None
    counts: bool
    code: str
    text: str
    until: datetime | None = None
    won: bool = False

    def as_data(self) -> dict[str, Any]:
        return {
            "source": str(self.source),
            "source_id": self.source_id,
            "plan": self.plan,
            "counts": self.counts,
            "won": self.won,
            "code": self.code,
            "text": self.text,
            "until": None if self.until is None else self.until.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a user may have at one moment, and why."""

    plan: Plan
    source: Source
    source_id: int | None
    limit_percent: int
    period_start: datetime
    period_end: datetime
    grace_ends_at: datetime | None
    changes_at: datetime | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    reason: Reason
    plan: Plan | None = None
    window: Window | None = None
    limit_percent: int = 100
    grace_ends_at: datetime | None = None
    # When this candidate's own answer changes by itself.
    moments: tuple[datetime, ...] = field(default=())


def decide(facts: Facts, at: datetime) -> Entitlement:
    """Everyone has at least the default plan; of what counts, the highest rank wins."""
    default = _default_candidate(facts, at)
    candidates = [default]
    if not facts.account_closed:
        candidates += [_subscription_candidate(sub, facts, at) for sub in facts.subscriptions]
        candidates += [_grant_candidate(grant, at) for grant in facts.grants]
    winner = max((c for c in candidates if c.reason.counts), key=_strength)
    assert winner.plan is not None
    assert winner.window is not None
    throttles = [throttle for throttle in facts.throttles if throttle.ends_at > at]
    return Entitlement(
        plan=winner.plan,
        source=Source(winner.reason.source),
        source_id=winner.reason.source_id,
        limit_percent=min(winner.limit_percent, *(throttle.percent for throttle in throttles))
        if throttles
        else winner.limit_percent,
        period_start=winner.window.start,
        period_end=winner.window.end,
        grace_ends_at=winner.grace_ends_at,
        changes_at=_next_change(candidates, throttles, winner.window, at),
        reasons=(
            *(replace(c.reason, won=c is winner) for c in candidates),
            *(_throttle_reason(throttle) for throttle in throttles),
        ),
    )


def _strength(candidate: Candidate) -> tuple[int, int, int, datetime, int]:
    assert candidate.plan is not None
    assert candidate.window is not None
    return (
        candidate.plan.rank,
        candidate.limit_percent,
        -PREFERENCE.index(Source(candidate.reason.source)),
        candidate.window.end,
        -(candidate.reason.source_id or 0),
    )


def _next_change(
    candidates: Iterable[Candidate],
    throttles: Iterable[ThrottleFacts],
    window: Window,
    at: datetime,
) -> datetime | None:
    moments = {window.end, *(moment for c in candidates for moment in c.moments)}
    moments |= {throttle.ends_at for throttle in throttles}
    return min((moment for moment in moments if moment > at), default=None)


def _default_candidate(facts: Facts, at: datetime) -> Candidate:
    plan = facts.default_plan
    text = f"Everyone has at least the {plan.name} plan."
    code = "default"
    if facts.account_closed:
        code, text = "account_closed", "The account is closed; only the default plan is left."
    return Candidate(
        reason=Reason(Source.DEFAULT, None, plan.code, True, code, text),
        plan=plan,
        window=month_window(facts.joined_at, at),
    )


def _subscription_candidate(sub: SubscriptionFacts, facts: Facts, at: datetime) -> Candidate:
    source = Source.SUBSCRIPTION if sub.seat is None else Source.ORGANIZATION
    source_id = sub.id if sub.seat is None else sub.seat.membership_id
    plan_code = None if sub.plan is None else sub.plan.code

    def no(code: str, text: str) -> Candidate:
        return Candidate(Reason(source, source_id, plan_code, False, code, text))

    access = ACCESS_BY_STATUS.get(sub.status, Access.NONE)
    if access is Access.NONE:
        return no(f"status:{sub.status}", MEANINGS.get(sub.status, "The status is not known."))
    if sub.awaits_payment:
        return no("awaiting_payment", "Its first payment is still on its way.")
    if sub.plan is None:
        return no("unmapped_price", "Its price is not mapped to a plan, and no earlier one was.")
    if sub.seat is not None and sub.seat.position > sub.quantity:
        return no("no_seat", _seat_text(sub, sub.seat))
    if sub.ends_at is not None and sub.ends_at <= at:
        return no("ended", f"Its cancellation took effect on {_day(sub.ends_at)}.")

    period = window_within(sub.period, at) if sub.period else month_window(facts.joined_at, at)
    text = _subscription_text(sub)
    moments = [moment for moment in (sub.ends_at, sub.trial_end) if moment is not None]
    if access is Access.GRACE:
        grace_ends_at = _grace_end(sub, sub.plan)
        if grace_ends_at is not None and grace_ends_at <= at:
            return no("grace_over", f"Its grace period ended on {_day(grace_ends_at)}.")
        moments += [grace_ends_at] if grace_ends_at else []
        until = f" until {_day(grace_ends_at)}" if grace_ends_at else ""
        return Candidate(
            Reason(
                source, source_id, plan_code, True, "grace", f"{text} Grace{until}.", grace_ends_at
            ),
            sub.plan,
            period,
            sub.plan.grace_limit_percent,
            grace_ends_at,
            tuple(moments),
        )
    reason = Reason(
        source, source_id, plan_code, True, sub.status, text, min(moments, default=None)
    )
    return Candidate(reason, sub.plan, period, moments=tuple(moments))


def _grace_end(sub: SubscriptionFacts, plan: Plan) -> datetime | None:
    """Counted once, from the first failure; nothing is cut while that moment is not known."""
    if sub.past_due_since is None:
        return None
    return sub.past_due_since + timedelta(days=plan.grace_days)


def _grant_candidate(grant: GrantFacts, at: datetime) -> Candidate:
    def reason(counts: bool, code: str, text: str) -> Reason:
        whose = f" (organization {grant.organization})" if grant.organization else ""
        return Reason(
            Source.GRANT, grant.id, grant.plan.code, counts, code, text + whose, grant.ends_at
        )

    if at < grant.starts_at:
        text = f"A grant that begins on {_day(grant.starts_at)}."
        return Candidate(
            reason(False, "grant_not_started", text), moments=(grant.starts_at, grant.ends_at)
        )
    if grant.ends_at <= at:
        return Candidate(reason(False, "grant_over", f"A grant that ended {_day(grant.ends_at)}."))
    month = month_window(grant.starts_at, at)
    return Candidate(
        reason(True, "grant", f"Granted by staff until {_day(grant.ends_at)}: {grant.reason}"),
        grant.plan,
        Window(month.start, min(month.end, grant.ends_at)),
        moments=(grant.ends_at,),
    )


def _throttle_reason(throttle: ThrottleFacts) -> Reason:
    text = f"{throttle.percent} % of the limits until {_day(throttle.ends_at)}: {throttle.reason}"
    return Reason("throttle", throttle.id, None, True, "throttled", text, throttle.ends_at)


def _subscription_text(sub: SubscriptionFacts) -> str:
    parts = [MEANINGS[sub.status]]
    if sub.seat is not None:
        parts.append(_seat_text(sub, sub.seat))
    if sub.unknown_status:
        parts.append(f"Stripe now says {sub.unknown_status!r}, which is not known here.")
    if not sub.price_is_mapped:
        parts.append("Its new price is not mapped; the last mapped plan holds.")
    if sub.ends_at is not None:
        parts.append(f"Ends on {_day(sub.ends_at)}.")
    return " ".join(parts)


def _seat_text(sub: SubscriptionFacts, seat: Seat) -> str:
    return f"Seat {seat.position} of {sub.quantity} at {seat.organization}."


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

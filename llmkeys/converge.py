"""Is everything as it should be? From billing to entitlement to key to what the gateway holds, and
for a sample to what it does, for all users. Reports every difference; changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from accounts.models import User
from llmkeys import audit, breaker, desired, gateway, shared_objects
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import AuditFinding, AuditRun, GatewayState, PlanAtGateway, VirtualKey
from llmkeys.spec import differences, money
from plans.decision import decide
from plans.facts import facts_for
from plans.models import CurrentEntitlement
from tesslate.lib.crypto import decrypt

BATCH = 500
# Differences that are kept for staff to see; all of them go to whoever asked.
EXAMPLES = 50
# Keys that are not ours are no difference between billing and the gateway; staff are shown them.
NOT_OURS = {audit.Kind.FOREIGN.value}


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two neighbours in the chain disagree, and about whom."""

    stage: str
    what: str
    user_id: int | None = None

    def __str__(self) -> str:
        who = f"user {self.user_id}: " if self.user_id is not None else ""
        return f"{self.stage}: {who}{self.what}"


@dataclass(slots=True)
class Report:
    """How many were looked at in each stage, and how many differed."""

    checked: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)

    @property
    def converged(self) -> bool:
        return not self.differing


Sink = Callable[[Difference], None]


def check(*, sample: int = 20, tell: Sink) -> Report:
    """Walk the whole chain. ``tell`` hears of each difference as it is found.

    The outcome is kept on GatewayState, for metrics and staff, with the moment where there was no
    difference.
    """
    report = Report()
    examples: list[str] = []
    for stage in (_entitlements, _keys, _plans, _gateway, lambda r: _probes(r, sample)):
        for difference in stage(report):
            report.differing[difference.stage] += 1
            if len(examples) < EXAMPLES:
                examples.append(str(difference))
            tell(difference)
    _keep(report, examples)
    return report


def _keep(report: Report, examples: list[str]) -> None:
    now = timezone.now()
    GatewayState.objects.filter(pk=breaker.state().pk).update(
        compared_at=now,
        comparison=[
            [stage, count, report.differing[stage]] for stage, count in report.checked.items()
        ],
        differences=examples,
        **({"converged_at": now} if report.converged else {}),
    )


def _people() -> QuerySet[User]:
    """Everybody who should have an entitlement: not staff who only use the admin."""
    users = User.objects.filter(deleted_at=None, is_active=True)
    return users.exclude(is_staff=True, firebase_uid=None, current_entitlement=None)


def _entitlements(report: Report) -> Iterator[Difference]:
    """Billing and what we wrote down as following from it."""
    stage = "billing → entitlement"
    now = timezone.now()
    users = _people().order_by("pk")
    last = 0
    while ids := list(users.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH]):
        last = ids[-1]
        facts = facts_for(ids)
        rows = CurrentEntitlement.objects.in_bulk(ids)
        for user_id in ids:
            report.checked[stage] += 1
            row = rows.get(user_id)
            if row is None:
                yield Difference(stage, "has never been decided", user_id)
                continue
            wrong = _wrong_fields(row, decide(facts[user_id], now))
            if wrong:
                yield Difference(stage, f"differs in {', '.join(wrong)}", user_id)


def _wrong_fields(row: CurrentEntitlement, decision: object) -> list[str]:
    pairs = {
        "plan": (row.plan_id, getattr(getattr(decision, "plan", None), "pk", None)),
        "limit": (row.limit_percent, getattr(decision, "limit_percent", None)),
        "period": (row.period_start, getattr(decision, "period_start", None)),
    }
    return [name for name, (ours, theirs) in pairs.items() if ours != theirs]


def _keys(report: Report) -> Iterator[Difference]:
    """Entitlements and keys, both ways; and each key with what we last saw of it."""
    stage = "entitlement → key"
    live = VirtualKey.live.filter(user_id=OuterRef("pk"))
    people = _people()
    report.checked[stage] += people.count()
    keyless = people.filter(~Exists(live), current_entitlement__isnull=False)
    for user_id in keyless.values_list("pk", flat=True).iterator():
        yield Difference(stage, "is entitled and has no key", user_id)
    stray = VirtualKey.live.filter(user__current_entitlement=None)
    for key in stray.iterator(chunk_size=BATCH):
        yield Difference(stage, f"key {key.pk} without an entitlement", key.user_id)
    yield from _records(report)


def _records(report: Report) -> Iterator[Difference]:
    stage = "desired → observed"
    switches = desired.switches_in_force()
    last = 0
    rows = VirtualKey.objects.filter(removed_at=None).order_by("pk")
    while ids := list(rows.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH]):
        last = ids[-1]
        for key in desired.keys_with_facts(ids):
            report.checked[stage] += 1
            problem = _record_problem(key, switches)
            if problem:
                yield Difference(stage, f"key {key.pk} {problem}", key.user_id)


def _record_problem(key: VirtualKey, switches: desired.Switches) -> str:
    if not key.is_in_step:
        return f"is behind ({key.last_error})" if key.last_error else "is behind"
    try:
        wanted = desired.desired_key(key, switches)
    except desired.NoEntitlement:
        return ""
    if (wanted is None) != (key.observed is None):
        return "should not be there" if wanted is None else "is not there"
    wrong = differences(wanted, key.observed) if wanted and key.observed else []
    return f"differs in {', '.join(wrong)}" if wrong else ""


def _plans(report: Report) -> Iterator[Difference]:
    stage = "plan → gateway's record"
    switches = desired.switches_in_force()
    rows = PlanAtGateway.objects.in_bulk()
    for plan in shared_objects.with_models(rows):
        report.checked[stage] += 1
        row = rows[plan.pk]
        if not row.is_in_step or desired.desired_plan(plan, switches) != row.observed:
            yield Difference(stage, f"plan {plan.code} is behind")


def _gateway(report: Report) -> Iterator[Difference]:
    """What we last saw, and what the gateway holds now: a dry audit."""
    stage = "observed → gateway"
    run = audit.run_audit(repair=False, resume=False)
    report.checked[stage] += sum(run.counts.values())
    if run.state != AuditRun.State.FINISHED:
        yield Difference(stage, f"not compared to the end: {run.error}")
    for finding in AuditFinding.objects.filter(run=run).select_related("key").iterator():
        if finding.kind not in NOT_OURS:
            user_id = finding.key.user_id if finding.key else None
            yield Difference(stage, str(finding), user_id)


def _probes(report: Report, sample: int) -> Iterator[Difference]:
    """What the gateway does with a few keys, picked anew each time."""
    stage = "gateway → enforced"
    client = gateway.client()
    switches = desired.switches_in_force()
    ids = VirtualKey.live.filter(observed__isnull=False).order_by("?").values_list("pk", flat=True)
    keys = desired.keys_with_facts(list(ids[:sample]))
    plans = {plan.pk: plan for plan in shared_objects.with_models(desired.plans_of(keys))}
    for key in keys:
        entitlement = desired.entitlement_of(key)
        if entitlement is None:
            continue
        report.checked[stage] += 1
        try:
            probe = client.probe(decrypt(key.secret))
        except LiteLLMError as error:
            yield Difference(stage, f"key {key.pk} could not be tried: {error}", key.user_id)
            continue
        allowed = set(desired.usable_models(plans[entitlement.plan_id], switches))
        if desired.is_blocked(key, switches):
            if not probe.is_refused:
                yield Difference(stage, f"key {key.pk} works although blocked", key.user_id)
        elif probe.is_refused and not _is_used_up(key):
            yield Difference(stage, f"key {key.pk} is refused ({probe.status})", key.user_id)
        elif not probe.is_refused and probe.models != allowed:
            names = ", ".join(sorted(probe.models ^ allowed))
            yield Difference(stage, f"key {key.pk} differs in models: {names}", key.user_id)


def _is_used_up(key: VirtualKey) -> bool:
    """Whether the refusal may be for want of budget."""
    allowed = money(key.observed_value.get("max_budget"))
    row = gateway.client().get_key(key.key_hash)
    spend = money((row or {}).get("spend"))
    return allowed is not None and spend is not None and spend >= allowed

"""What is not as it should be at the gateway now: what the last whole audit found, less what has
been dealt with since."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from llmkeys import foreign
from llmkeys.audit import Kind
from llmkeys.models import AuditFinding, AuditRun, TrustedKey

NO_DRIFT = {Kind.IN_STEP.value, Kind.MOVING.value, Kind.TRUSTED.value}
FOREIGN = Kind.FOREIGN.value
# They bear our mark, and we did not make them: to look like ours is no accident.
POSING_AS_OURS = (Kind.ORPHAN.value, Kind.DUPLICATE.value)
NOT_MADE_BY_US = (FOREIGN, *POSING_AS_OURS)
# Such a finding is over once we have written the key anew.
ABOUT_OUR_KEYS = (Kind.DRIFTED.value, Kind.MISSING.value, Kind.UNWANTED.value)


@dataclass(frozen=True, slots=True)
class Drift:
    """How many keys, and plans' shared objects, are not as they should be, by class; ``run`` is
    None when there was no whole audit yet."""

    run: AuditRun | None
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def foreign(self) -> int:
        """Keys that bear no mark of ours and for which nobody vouches."""
        return self.counts[FOREIGN]

    @property
    def posing(self) -> int:
        return sum(self.counts[kind] for kind in POSING_AS_OURS)

    @property
    def changed(self) -> int:
        """What is ours and was changed or lost behind our back."""
        return self.counts.total() - self.foreign - self.posing


def drift_now() -> Drift:
    run = _last_whole_run()
    if run is None:
        return Drift(None)
    counts = Counter({kind: count for kind, count in run.counts.items() if kind not in NO_DRIFT})
    over = run.findings.exclude(pk__in=_standing(run).values("pk")).order_by()
    for kind, total, of_plans in over.values_list("kind").annotate(
        total=Count("pk"), of_plans=Count("pk", filter=Q(key=None, kind__in=ABOUT_OUR_KEYS))
    ):
        counts[kind] -= total - of_plans
        # What plans share is counted apart and listed under the same name.
        counts[f"plan {kind}"] -= of_plans
    return Drift(run, +counts)


def findings_now() -> QuerySet[AuditFinding]:
    """What of it is listed."""
    run = _last_whole_run()
    return AuditFinding.objects.none() if run is None else _standing(run)


def described(finding: AuditFinding) -> str:
    """What differs, ours first; of a key that we did not make, what it may do."""
    if finding.kind in NOT_MADE_BY_US:
        return foreign.told({name: theirs for name, (_, theirs) in finding.fields.items()})
    return "; ".join(
        f"{name}: {ours} → {theirs}" for name, (ours, theirs) in finding.fields.items()
    )


def first_seen(kinds: tuple[str, ...]) -> datetime | None:
    """When the oldest of them was found first, as far as kept audits tell."""
    now = findings_now().filter(kind__in=kinds).exclude(gateway_id="")
    earlier = AuditFinding.objects.filter(gateway_id__in=now.values("gateway_id"))
    return earlier.order_by("run_id").values_list("run__started_at", flat=True).first()


def _last_whole_run() -> AuditRun | None:
    return AuditRun.objects.filter(state=AuditRun.State.FINISHED).first()


def _standing(run: AuditRun) -> QuerySet[AuditFinding]:
    trusted = TrustedKey.objects.filter(key_hash=OuterRef("gateway_id"))
    return AuditFinding.objects.filter(run=run, repaired=False).exclude(
        Q(kind__in=ABOUT_OUR_KEYS, key__synced_at__gt=F("run__started_at")) | Exists(trusted)
    )

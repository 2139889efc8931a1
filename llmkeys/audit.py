"""Walk through everything that the gateway holds and compare it with what it should hold.

Reads page by page and keeps no page, so that a million keys take no more memory than a hundred.
Concludes nothing from what it did not see: a key counts as missing only after a complete walk, and
after having been asked for by name. Keys that are not ours are counted and never touched; those
for which nobody vouches (llmkeys.foreign) are listed as well.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from llmkeys import desired, gateway, marking, shared_objects
from llmkeys.bulk import update_each
from llmkeys.key_pages import pages
from llmkeys.litellm_client import MAX_PAGE, Json, LiteLLMClient
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import AuditFinding, AuditRun, PlanAtGateway, TrustedKey, VirtualKey
from llmkeys.spec import State, differences, last_used, observe_key, spend_of
from tesslate.lib.cause import Cause

logger = logging.getLogger(__name__)

CAUSE = Cause.system("audit")
# An interrupted walk may be taken up again for so long; later it starts afresh.
RESUMABLE_FOR = timedelta(hours=1)
KEPT_RUNS = 100
# Keys asked for by name before what came of it is written down.
ASKED_TOGETHER = 200
# Further apart than this, two machines' clocks are wrong.
CLOCKS_AGREE_WITHIN = timedelta(minutes=1)
# Foreign keys are listed only as examples: others may keep thousands at the same gateway.
EXAMPLES = 100
# Of a key that we did not make: what it may do, and since when.
TELLING = ("max_budget", "models", "spend", "created_at", "created_by")

Progress = Callable[[int, int], None]


class Kind(StrEnum):
    """What a key at the gateway, or a key of ours, turns out to be."""

    IN_STEP = "in step"
    # Being worked on at this moment: nothing to say about it.
    MOVING = "moving"
    DRIFTED = "drifted"
    MISSING = "missing"
    # Ours and retired, and yet there.
    UNWANTED = "unwanted"
    # A second key under the name of one of ours.
    DUPLICATE = "duplicate"
    # Marked as ours, and yet we know nothing of it.
    ORPHAN = "orphan"
    FOREIGN = "foreign"
    # Foreign, and staff vouch for it.
    TRUSTED = "trusted"


@dataclass(slots=True)
class Walk:
    """What has been found so far."""

    run: AuditRun
    client: LiteLLMClient
    repair: bool
    # Of this leg, where an interrupted walk is taken up again.
    begun_at: datetime = field(default_factory=timezone.now)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[AuditFinding] = field(default_factory=list)

    def add(self, kind: Kind, **details: Any) -> None:
        self.findings.append(AuditFinding(run=self.run, kind=kind.value, **details))

    def save(self) -> None:
        AuditFinding.objects.bulk_create(self.findings)
        self.findings = []
        AuditRun.objects.filter(pk=self.run.pk).update(
            counts=dict(self.counts), next_page=self.run.next_page
        )


def run_audit(
    *, repair: bool = True, progress: Progress | None = None, resume: bool = True
) -> AuditRun:
    """One audit. Repairs are left to the reconciler, which reads each key again before it writes.

    An outage ends it as *interrupted*: what was not seen is unknown, not missing. The next one
    goes on from there.
    """
    run = _run_to_resume(repair) if resume else None
    run = run or AuditRun.objects.create(repairs=repair)
    walk = Walk(run, gateway.client(), repair, counts=Counter(run.counts))
    try:
        _audit_plans(walk)
        _audit_pages(walk, progress)
        _audit_unseen(walk)
    except LiteLLMError as error:
        walk.save()
        _finish(run, AuditRun.State.INTERRUPTED, str(error))
        return run
    walk.save()
    _finish(run, AuditRun.State.FINISHED, "")
    if repair:
        _give_stuck_keys_another_chance()
    return run


def _run_to_resume(repair: bool) -> AuditRun | None:
    run = AuditRun.objects.filter(
        state=AuditRun.State.INTERRUPTED,
        repairs=repair,
        started_at__gt=timezone.now() - RESUMABLE_FOR,
    ).first()
    if run is None or run != AuditRun.objects.first():
        return None
    run.state = AuditRun.State.RUNNING
    run.save(update_fields=["state"])
    return run


def _finish(run: AuditRun, state: AuditRun.State, error: str) -> None:
    run.refresh_from_db()
    run.state, run.error, run.finished_at = state, error[:500], timezone.now()
    run.save(update_fields=["state", "error", "finished_at"])
    old = AuditRun.objects.order_by("-pk").values_list("pk", flat=True)[KEPT_RUNS:]
    AuditRun.objects.filter(pk__in=list(old)).delete()


# What plans share


def _audit_plans(walk: Walk) -> None:
    rows = {row.pk: row for row in PlanAtGateway.objects.filter(observed__isnull=False)}
    switches = desired.switches_in_force()
    for plan in shared_objects.with_models(rows):
        row = rows[plan.pk]
        wanted = desired.desired_plan(plan, switches)
        found = shared_objects.look_at(walk.client, row.gateway_id)
        if found == wanted or not row.is_in_step:
            continue
        fields = _fields(wanted, found or {})
        kind = Kind.MISSING if found is None else Kind.DRIFTED
        walk.counts[f"plan {kind.value}"] += 1
        walk.add(kind, gateway_id=row.gateway_id, fields=fields, repaired=walk.repair)
        if walk.repair:
            marking.mark_plans([row.pk], cause=CAUSE)


# Keys


def _audit_pages(walk: Walk, progress: Progress | None) -> None:
    for part, asked_at in pages(walk.client, walk.run.next_page):
        _audit_rows(walk, [row for page in part for row in page.rows], asked_at)
        end = part[-1]
        walk.run.next_page = end.page + 1
        walk.save()
        if progress is not None:
            progress((end.page - 1) * MAX_PAGE + len(end.rows), end.total_count)


def _audit_rows(walk: Walk, rows: Sequence[Json], asked_at: datetime) -> None:
    """Compare rows of which none was asked for before that moment."""
    hashes = [row["token"] for row in rows if "token" in row]
    by_hash = desired.keys_to_compare(hashes)
    trusted = set(TrustedKey.objects.filter(key_hash__in=hashes).values_list("key_hash", flat=True))
    switches = desired.switches_in_force(user_ids={key.user_id for key in by_hash.values()})
    drifted: list[int] = []
    unused: list[int] = []
    used: dict[int, dict[str, Any]] = {}
    for row in rows:
        key = by_hash.get(row.get("token", ""))
        if key is None:
            _classify_unknown(walk, row, trusted)
            continue
        found = observe_key(row)
        kind, wanted = classify(key, found, asked_at, switches)
        walk.counts[kind.value] += 1
        if use := _news_of_use(key, row):
            used[key.pk] = use
        else:
            unused.append(key.pk)
        if kind in (Kind.DRIFTED, Kind.UNWANTED):
            fields = _fields(wanted, found) if wanted else {}
            walk.add(kind, key=key, alias=key.alias, fields=fields, repaired=walk.repair)
            drifted.append(key.pk)
    now = timezone.now()
    VirtualKey.objects.filter(pk__in=unused).update(audited_at=now)
    update_each(
        VirtualKey,
        {pk: {**use, "spend_seen_at": now, "audited_at": now} for pk, use in used.items()},
    )
    if walk.repair and drifted:
        _repair(VirtualKey.objects.filter(pk__in=drifted))


def classify(
    key: VirtualKey, found: State, asked_at: datetime, switches: desired.Switches
) -> tuple[Kind, State | None]:
    """What the gateway's row for one of our keys says, and what it should say."""
    if not key.is_in_step or key.lease_until is not None or _is_since(key.synced_at, asked_at):
        return Kind.MOVING, None
    try:
        wanted = desired.desired_key(key, switches)
    except desired.NoEntitlement:
        return Kind.MOVING, None
    if wanted is None:
        return Kind.UNWANTED, None
    return (Kind.DRIFTED if differences(wanted, found) else Kind.IN_STEP), wanted


def _is_since(moment: datetime | None, start: datetime) -> bool:
    """Whether it lies between the start and now; a moment that some wrong clock has put into the
    future says nothing."""
    return moment is not None and start <= moment <= timezone.now() + CLOCKS_AGREE_WITHIN


def _classify_unknown(walk: Walk, row: Json, trusted: Collection[str]) -> None:
    """A key that we did not make, or one that we made and then lost sight of."""
    alias, metadata = str(row.get("key_alias") or ""), row.get("metadata") or {}
    token = str(row.get("token", ""))
    if token in trusted:
        walk.counts[Kind.TRUSTED.value] += 1
        return
    told: dict[str, Any] = {
        "gateway_id": token,
        "alias": alias,
        "fields": {name: [None, row.get(name)] for name in TELLING},
    }
    if not is_marked_as_ours(alias, metadata):
        walk.counts[Kind.FOREIGN.value] += 1
        if walk.counts[Kind.FOREIGN.value] <= EXAMPLES:
            walk.add(Kind.FOREIGN, **told)
        return
    twin = VirtualKey.objects.filter(alias=alias).first() if alias else None
    if twin is None:
        walk.counts[Kind.ORPHAN.value] += 1
        walk.add(Kind.ORPHAN, **told)
        return
    walk.counts[Kind.DUPLICATE.value] += 1
    gone = walk.repair and metadata.get("key") == twin.pk
    if gone:
        # It bears our key's own mark: a relic of ours under the same name, named by its hash.
        walk.client.delete_key(token)
    walk.add(Kind.DUPLICATE, key=twin, repaired=gone, **told)


def is_marked_as_ours(alias: str, metadata: State) -> bool:
    prefix = settings.LITELLM_KEY_PREFIX
    return bool(metadata.get("managed_by") == prefix and alias.startswith(f"{prefix}-"))


def _news_of_use(key: VirtualKey, row: Json) -> dict[str, Any]:
    """What the row tells of the key's use that we did not know; empty for nothing."""
    use = {"spend": spend_of(row), "last_used_at": last_used(row) or key.last_used_at}
    known = {"spend": key.spend, "last_used_at": key.last_used_at}
    return {} if use == known else use


def _fields(wanted: State, found: State) -> dict[str, Any]:
    return {name: [wanted[name], found.get(name)] for name in differences(wanted, found)}


def _repair(keys: QuerySet[VirtualKey]) -> None:
    marking.mark_keys(keys, cause=CAUSE, in_doubt=True, removed_at=None)


def put_behind(run: AuditRun) -> tuple[list[int], list[int]]:
    """The keys, and the plans, that this audit left to the reconciler to repair."""
    found = run.findings.filter(repaired=True, kind__in=[Kind.DRIFTED, Kind.UNWANTED, Kind.MISSING])
    keys = found.filter(key__isnull=False).values_list("key_id", flat=True)
    names = found.filter(key=None).values_list("gateway_id", flat=True)
    plans = PlanAtGateway.objects.filter(gateway_id__in=names).values_list("pk", flat=True)
    return [pk for pk in keys if pk is not None], list(plans)


# What the walk did not meet


def _audit_unseen(walk: Walk) -> None:
    """Ask by name for every key that should have been on some page and was on none: pages shift
    while one reads them, so that alone says nothing."""
    started = walk.run.started_at
    future = timezone.now() + CLOCKS_AGREE_WITHIN
    unseen = VirtualKey.live.filter(
        Q(audited_at=None) | Q(audited_at__lt=started) | Q(audited_at__gt=future),
        # What was written since is as it was written; an earlier leg's time is long past.
        Q(synced_at__lt=walk.begun_at) | Q(synced_at__gt=future),
        observed__isnull=False,
        observed_generation=F("generation"),
    )
    last = 0
    with ThreadPoolExecutor(settings.LITELLM_CONCURRENCY) as threads:
        while part := list(unseen.filter(pk__gt=last).order_by("pk")[:ASKED_TOGETHER]):
            last = part[-1].pk
            rows = threads.map(walk.client.get_key, [key.key_hash for key in part])
            missing = [key for key, row in zip(part, rows, strict=True) if row is None]
            for key in missing:
                walk.counts[Kind.MISSING.value] += 1
                walk.add(Kind.MISSING, key=key, alias=key.alias, repaired=walk.repair)
            if walk.repair and missing:
                _repair(VirtualKey.objects.filter(pk__in=[key.pk for key in missing]))
            walk.save()


def _give_stuck_keys_another_chance() -> None:
    marking.mark_keys(VirtualKey.objects.filter(parked_at__isnull=False), cause=CAUSE)
    stuck = PlanAtGateway.objects.filter(parked_at__isnull=False)
    marking.mark_plans(list(stuck.values_list("pk", flat=True)), cause=CAUSE)

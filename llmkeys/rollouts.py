"""Edit a plan knowingly: what the edit will do, then the edit as a tracked rollout.

What a plan's keys share (models, rates) follows in two calls. What each key carries (its budget and
its parallel requests) is fanned out over the plan's keys in batches by id, on the bulk queue and at
a bounded rate, so that buyers do not wait behind it. While a rollout is paused, the rest of the
keys keep what they have, unless something else makes them sync. Cancelling and rolling back are
rollouts too, the other way.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Max, QuerySet
from django.utils import timezone

from accounts.audit import record_act
from llmkeys import gateway, marking, provisioning, reconcile
from llmkeys.desired import plan_key_fields
from llmkeys.errors import PlanNotUsable
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import PlanAtGateway, Rollout, UsageDay, VirtualKey
from plans.models import CurrentEntitlement, GatewayModel, Plan
from plans.signals import plan_changed
from tesslate.lib.cause import Cause
from tesslate.lib.errors import Conflict

BATCH = 500
# How far back use of a model counts when a plan is about to lose it.
LATELY = timedelta(days=30)
MODELS = "gateway_models"
SHARED_FIELDS = {"rpm", "tpm", MODELS}
KEY_FIELDS = {"budget_cents", "max_parallel_requests"}
EDITABLE = SHARED_FIELDS | KEY_FIELDS

State = Rollout.State


@dataclass(frozen=True, slots=True)
class Impact:
    """What an edit would do."""

    users: int
    keys: int
    # (field, before, after) for what changes for these users.
    changes: list[tuple[str, Any, Any]]
    models_lost: list[str]
    models_gained: list[str]
    # Of those lost: model, how many of these users called it lately, and when last (a day, UTC).
    lost_but_used: list[tuple[str, int, date]]
    # Calls to the gateway: for what is shared, and one for each key that must change.
    shared_calls: int
    key_calls: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def impact(plan: Plan, edit: Mapping[str, Any]) -> Impact:
    """What ``edit`` would do: a mapping from plan fields to new values, models by id."""
    before = snapshot(plan, edit)
    changed = {name: value for name, value in _plain(edit).items() if before[name] != value}
    keys = keys_of(plan).count()
    names = dict(GatewayModel.objects.values_list("pk", "name"))
    had, gets = set(before.get(MODELS, [])), set(changed.get(MODELS, before.get(MODELS, [])))
    return Impact(
        users=CurrentEntitlement.objects.filter(plan=plan).count(),
        keys=keys,
        changes=[(name, before[name], value) for name, value in changed.items()],
        models_lost=sorted(names[pk] for pk in had - gets),
        models_gained=sorted(names[pk] for pk in gets - had),
        lost_but_used=_used_lately(plan, [names[pk] for pk in had - gets]),
        shared_calls=2 if SHARED_FIELDS & changed.keys() else 0,
        key_calls=keys if KEY_FIELDS & changed.keys() else _throttled(plan, changed),
    )


def _used_lately(plan: Plan, models: Collection[str]) -> list[tuple[str, int, date]]:
    since = timezone.now().date() - LATELY
    rows = (
        UsageDay.objects.filter(
            day__gte=since, model__in=models, requests__gt=0, user__current_entitlement__plan=plan
        )
        .values("model")
        .annotate(users=Count("user", distinct=True), last=Max("day"))
    )
    return [(row["model"], row["users"], row["last"]) for row in rows.order_by("model")]


def _throttled(plan: Plan, changed: Mapping[str, Any]) -> int:
    """Keys that carry a share of the plan's rates themselves."""
    if not {"rpm", "tpm"} & changed.keys():
        return 0
    return keys_of(plan).filter(user__current_entitlement__limit_percent__lt=100).count()


def keys_of(plan: Plan) -> QuerySet[VirtualKey]:
    return VirtualKey.objects.filter(user__current_entitlement__plan=plan, removed_at=None)


def snapshot(plan: Plan, fields: Collection[str]) -> dict[str, Any]:
    """The plan's present values of these fields, as JSON."""
    unknown = set(fields) - EDITABLE
    if unknown:
        raise PlanNotUsable(f"Not for a rollout: {', '.join(sorted(unknown))}.")
    return {
        name: (
            sorted(plan.gateway_models.values_list("pk", flat=True))
            if name == MODELS
            else getattr(plan, name)
        )
        for name in fields
    }


def _plain(edit: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: sorted(getattr(item, "pk", item) for item in value) if name == MODELS else value
        for name, value in edit.items()
    }


def check_models(model_ids: Collection[int]) -> None:
    """Refuse a plan without models, and models that the gateway does not serve.

    Raises PlanNotUsable. A gateway that cannot be asked is no reason to refuse.
    """
    names = set(GatewayModel.objects.filter(pk__in=model_ids).values_list("name", flat=True))
    if not names:
        raise PlanNotUsable("A plan needs at least one model.", param=MODELS)
    try:
        served = gateway.client().model_names()
    except LiteLLMError:
        return
    unknown = sorted(names - served)
    if unknown:
        raise PlanNotUsable(f"The gateway does not serve: {', '.join(unknown)}.", param=MODELS)


# Rolling out


def start(*, plan: Plan, edit: Mapping[str, Any], cause: Cause) -> Rollout:
    """Save the edit and begin to roll it out; an edit still under way is superseded.

    Raises PlanNotUsable.
    """
    edit = _plain(edit)
    if MODELS in edit:
        check_models(edit[MODELS])
    return _start(plan=plan, edit=edit, cause=cause)


@transaction.atomic
def _start(
    *, plan: Plan, edit: Mapping[str, Any], cause: Cause, undoes: Rollout | None = None
) -> Rollout:
    plan = Plan.objects.select_for_update().get(pk=plan.pk)
    before = snapshot(plan, edit)
    under_way = Rollout.objects.filter(plan=plan, state__in=[State.RUNNING, State.PAUSED])
    # Keys that the earlier edit had not reached yet are this one's to change as well.
    unfinished = any(KEY_FIELDS & set(earlier.after) for earlier in under_way)
    under_way.update(state=State.SUPERSEDED, finished_at=timezone.now())
    _apply(plan, edit)
    fan_out = unfinished or bool(KEY_FIELDS & edit.keys())
    rollout = Rollout.objects.create(
        plan=plan,
        before=before,
        after=dict(edit),
        undoes=undoes,
        total=keys_of(plan).count() if fan_out else 0,
        started_by_id=cause.actor_id,
    )
    record_act(
        action="plan.rollout_started", cause=cause, target=plan, before=before, after=dict(edit)
    )
    provisioning.ensure_plans([plan])
    PlanAtGateway.objects.filter(plan=plan).update(key_fields=plan_key_fields(plan))
    plan_changed.send(sender=None, plan=plan, cause=cause)
    _finish_if_done(rollout)
    marking.after_commit("advance_rollouts")
    return rollout


def _apply(plan: Plan, edit: Mapping[str, Any]) -> None:
    for name, value in edit.items():
        if name != MODELS:
            setattr(plan, name, value)
    plan.version += 1
    plan.full_clean()
    plan.save()
    if MODELS in edit:
        plan.gateway_models.set(edit[MODELS])


def follow_edit(*, plan: Plan, cause: Cause) -> Rollout | None:
    """The plan was saved by somebody else than ``start``: fan out what its keys carry.

    Runs in the transaction that saved the plan. None when the keys need not change.
    """
    shared = PlanAtGateway.objects.get(plan=plan)
    fields = plan_key_fields(plan)
    if shared.key_fields == fields:
        return None
    PlanAtGateway.objects.filter(plan=plan).update(key_fields=fields)
    Rollout.objects.filter(plan=plan, state__in=[State.RUNNING, State.PAUSED]).update(
        state=State.SUPERSEDED, finished_at=timezone.now()
    )
    rollout = Rollout.objects.create(
        plan=plan,
        before={k: v for k, v in shared.key_fields.items() if k in EDITABLE},
        after={k: v for k, v in fields.items() if k in EDITABLE},
        total=keys_of(plan).count(),
        started_by_id=cause.actor_id,
    )
    _finish_if_done(rollout)
    marking.after_commit("advance_rollouts")
    return rollout


def advance(rollout_id: int) -> int:
    """Hand the next batch of keys over and work on it; how many keys, 0 when there is no more to
    do now. Resumes where it stopped, whoever stopped it."""
    with transaction.atomic():
        rollout = Rollout.objects.select_for_update(skip_locked=True).filter(pk=rollout_id).first()
        if rollout is None or rollout.state != State.RUNNING:
            return 0
        ids = list(
            keys_of(rollout.plan)
            .filter(pk__gt=rollout.cursor)
            .order_by("pk")
            .values_list("pk", flat=True)[:BATCH]
        )
        if ids:
            cause = Cause("staff" if rollout.started_by_id else "system", f"rollout {rollout.pk}")
            VirtualKey.objects.filter(pk__in=ids).update(**marking.behind(cause))
            rollout.cursor = ids[-1]
            rollout.handed_over += len(ids)
            rollout.save(update_fields=["cursor", "handed_over"])
        else:
            _finish(rollout, State.DONE)
    if ids:
        reconcile.sync_keys(ids)
    return len(ids)


def advance_all(*, batches: int = 20) -> int:
    """Work on every running rollout for a while; keys handed over."""
    done = 0
    for pk in (
        Rollout.objects.filter(state=State.RUNNING).order_by("pk").values_list("pk", flat=True)
    ):
        for _ in range(batches):
            turn = advance(pk)
            done += turn
            if turn == 0:
                break
    return done


@dataclass(frozen=True, slots=True)
class Progress:
    total: int
    handed_over: int
    # Handed over, and not yet seen at the gateway.
    behind: int
    percent: int


def progress(rollout: Rollout) -> Progress:
    behind = (
        keys_of(rollout.plan)
        .filter(pk__lte=rollout.cursor, observed_generation__lt=F("generation"))
        .count()
    )
    reached = max(0, rollout.handed_over - behind)
    total = max(rollout.total, rollout.handed_over)
    percent = 100 if not total else reached * 100 // total
    return Progress(total, rollout.handed_over, behind, percent)


# Steering


def pause(*, rollout: Rollout, cause: Cause) -> None:
    _steer(rollout, State.RUNNING, State.PAUSED, cause)


def resume(*, rollout: Rollout, cause: Cause) -> None:
    _steer(rollout, State.PAUSED, State.RUNNING, cause)
    marking.send("advance_rollouts")


def cancel(*, rollout: Rollout, cause: Cause) -> Rollout:
    """Stop a rollout that is under way and put everything back as it was before."""
    return _take_back(rollout, {State.RUNNING, State.PAUSED}, State.CANCELLED, cause)


def roll_back(*, rollout: Rollout, cause: Cause) -> Rollout:
    """Put everything back as it was before a finished rollout."""
    return _take_back(rollout, {State.DONE}, State.ROLLED_BACK, cause)


def _steer(rollout: Rollout, before: str, after: str, cause: Cause) -> None:
    with transaction.atomic():
        if not Rollout.objects.filter(pk=rollout.pk, state=before).update(state=after):
            raise Conflict(f"The rollout is not {before}.")
        record_act(action=f"plan.rollout_{after}", cause=cause, target=rollout.plan)


@transaction.atomic
def _take_back(rollout: Rollout, from_states: set[State], to: State, cause: Cause) -> Rollout:
    """A rollout the other way. Raises Conflict when the plan was edited since."""
    rollout = Rollout.objects.select_for_update().get(pk=rollout.pk)
    if rollout.state not in from_states:
        raise Conflict(f"The rollout is {rollout.get_state_display().lower()}.")
    if Rollout.objects.filter(plan=rollout.plan, pk__gt=rollout.pk).exists():
        raise Conflict("The plan was edited again since.")
    _finish(rollout, to)
    record_act(action=f"plan.rollout_{to}", cause=cause, target=rollout.plan)
    return _start(plan=rollout.plan, edit=rollout.before, cause=cause, undoes=rollout)


def _finish_if_done(rollout: Rollout) -> None:
    if rollout.total == 0:
        _finish(rollout, State.DONE)


def _finish(rollout: Rollout, state: State) -> None:
    rollout.state, rollout.finished_at = state, timezone.now()
    rollout.save(update_fields=["state", "finished_at"])

"""Random histories of users, keys, staff and faults, and how they must end.

Each history happens in one database transaction that is rolled back. Workers are interleaved by
hand, so that each step can stop where a process can die: after its claim, between two calls to the
gateway, before a call has its effect and after it, before its results are written. In the end the
faults stop; one sweep, one audit and one more sweep later, every key must be as it should be,
judged by what the gateway then holds and does.
"""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from accounts.models import User
from llmkeys import (
    audit,
    breaker,
    gateway,
    leases,
    marking,
    probes,
    reconcile,
    recording,
    rollouts,
    rotation,
    services,
    shared_objects,
    switches,
    upkeep,
)
from llmkeys.credentials import credential_for
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import GatewayState, KillSwitch, PlanAtGateway, Rollout, VirtualKey
from llmkeys.spec import differences, observe_key
from plans.models import CurrentEntitlement, GatewayModel, Plan
from plans.signals import entitlements_changed, plan_changed
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt
from tesslate.lib.errors import ApiError
from tests.llmkeys import faults
from tests.llmkeys.faults import answering
from tests.llmkeys.standin import Fault, StandIn, client_of

CAUSE = Cause.system("history")
START = datetime.fromisoformat("2026-11-05T09:30:00+00:00")
CENT = 1e-4

histories_run = 0


class Crash(BaseException):
    """kill -9: nothing catches it, nothing after it happens."""


def crash(request: httpx.Request) -> httpx.Response | None:
    raise Crash


FAULTS: dict[str, Callable[[httpx.Request], httpx.Response | None]] = {
    "refused": faults.refused,
    "silent": faults.silent,
    "torn": faults.torn,
    "500": answering(500),
    "503": answering(503),
    "429": answering(429, **{"retry-after": "1"}),
    "401": answering(401),
    "garbage": answering(200, {"unexpected": True}),
    "crash": crash,
}
# The first three of these never reach the gateway; a lost answer can look like any other.
BEFORE = ["refused", "silent", "500", "503", "429", "401", "crash"]
AFTER = ["silent", "torn", "500", "503", "garbage", "crash"]

STRIKES = st.lists(
    st.tuples(
        st.integers(0, 3),  # calls that go well first
        st.one_of(
            st.tuples(st.just("before"), st.sampled_from(BEFORE)),
            st.tuples(st.just("after"), st.sampled_from(AFTER)),
        ),
    ),
    max_size=2,
)


class Histories(RuleBasedStateMachine):
    people = Bundle("people")

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.folder = tempfile.TemporaryDirectory()
        self.standin = StandIn(Path(self.folder.name))
        gateway.use(client_of(self.standin, concurrency=1))
        self.patches: list[Any] = [
            mock.patch.object(marking, "send"),
            mock.patch.object(rollouts, "BATCH", 2),
        ]
        for patch in self.patches:
            patch.start()
        self.foreign: set[str] = set()
        self.spent: dict[tuple[int, str], float] = {}
        # Users whose spend the gateway was made to forget: only their budget itself is judged.
        self.inexact: set[int] = set()
        self.count = 0

    @initialize(target=people)
    def catalogue(self) -> User:
        names = ("small", "large", "huge")
        self.models = [GatewayModel.objects.create(name=name, title=name) for name in names]
        self.plans = []
        for rank, (code, cents) in enumerate([("free", 100), ("plus", 1000), ("pro", 5000)]):
            plan = Plan.objects.create(
                code=code,
                name=code,
                rank=rank + 1,
                rpm=20 * (rank + 1),
                tpm=1000 * (rank + 1),
                budget_cents=cents,
                max_keys=rank + 1,
                is_default=rank == 0,
            )
            plan.gateway_models.set(self.models[: rank + 1])
            self.plans.append(plan)
        return self.new_person()

    # People and billing

    @rule(target=people)
    def somebody_signs_up(self) -> User:
        return self.new_person()

    def new_person(self) -> User:
        self.count += 1
        person = User.objects.create(email=f"p{self.count}@example.com")
        self.entitle(person, self.plans[0], START)
        return person

    def entitle(self, person: User, plan: Plan, start: datetime, percent: int = 100) -> None:
        CurrentEntitlement.objects.update_or_create(
            user=person,
            defaults={
                "plan": plan,
                "source": "subscription",
                "limit_percent": percent,
                "period_start": start,
                "period_end": start + timedelta(days=30),
                "decided_at": timezone.now(),
            },
        )
        entitlements_changed.send(sender=None, user_ids=[person.pk], cause=CAUSE)

    @rule(
        person=people,
        plan=st.integers(0, 2),
        month=st.integers(0, 3),
        percent=st.sampled_from([100, 100, 50]),
    )
    def billing_decides(self, person: User, plan: int, month: int, percent: int) -> None:
        self.entitle(person, self.plans[plan], START + timedelta(days=30 * month), percent)

    @rule(person=people, fate=st.sampled_from(["suspended", "reinstated", "deleted", "renamed"]))
    def account_changes(self, person: User, fate: str) -> None:
        now = timezone.now()
        if fate == "suspended":
            User.objects.filter(pk=person.pk).update(suspended_at=now)
        elif fate == "reinstated":
            User.objects.filter(pk=person.pk).update(suspended_at=None)
        elif fate == "deleted":
            User.objects.filter(pk=person.pk).update(deleted_at=now, is_active=False)
        else:
            email = f"new{self.count}-{person.pk}@example.com"
            User.objects.filter(pk=person.pk).update(email=email)
        # As llmkeys.receivers.follow_accounts does; plans' own receiver would decide anew.
        from llmkeys.receivers import follow_accounts

        follow_accounts(user_ids=[person.pk], cause=CAUSE)

    # Staff and owners

    @rule(person=people, act=st.sampled_from(["block", "unblock", "rotate", "revoke", "undo",
                                              "further", "retire", "reset", "heal"]))  # fmt: skip
    def somebody_acts_on_a_key(self, person: User, act: str) -> None:
        key = VirtualKey.live.filter(user=person).select_related("user").order_by("-pk").first()
        with suppress(ApiError), transaction.atomic():
            match act, key:
                case "further", _:
                    label = f"key {VirtualKey.objects.count()}"
                    services.create_key(user=person, label=label, cause=CAUSE)
                case "reset", _:
                    services.reset_spend(user=person, reason="why not", cause=CAUSE)
                case "heal", _:
                    services.heal_key(user_id=person.pk, cause=CAUSE)
                case _, None:
                    return
                case "block", VirtualKey():
                    services.block_key(key=key, reason="abuse", cause=CAUSE)
                case "unblock", VirtualKey():
                    services.unblock_key(key=key, cause=CAUSE)
                case "rotate", VirtualKey():
                    rotation.rotate_key(key=key, cause=CAUSE, overlap=timedelta(hours=1))
                case "revoke", VirtualKey():
                    rotation.revoke_key(key=key, cause=CAUSE, reason="leak")
                case "undo", VirtualKey():
                    rotation.undo_rotation(key=key, cause=CAUSE)
                case "retire", VirtualKey():
                    services.retire_key(key=key, cause=CAUSE)

    @rule()
    def overlaps_end(self) -> None:
        VirtualKey.objects.filter(lifecycle="retiring").update(retire_at=timezone.now())
        upkeep.retire_due()

    @rule(
        plan=st.integers(0, 2),
        edit=st.sampled_from(["rpm", "budget_cents", "models", "parallel"]),
        value=st.integers(1, 3),
    )
    def a_plan_is_edited(self, plan: int, edit: str, value: int) -> None:
        edits: dict[str, dict[str, Any]] = {
            "rpm": {"rpm": 10 * value},
            "budget_cents": {"budget_cents": 700 * value},
            "models": {"gateway_models": [model.pk for model in self.models[:value]]},
            "parallel": {"max_parallel_requests": value},
        }
        rollouts._start(plan=self.plans[plan], edit=rollouts._plain(edits[edit]), cause=CAUSE)

    @rule(what=st.sampled_from(["advance", "pause", "resume", "cancel", "roll_back"]))
    def a_rollout_is_steered(self, what: str) -> None:
        rollout = Rollout.objects.order_by("-pk").first()
        if rollout is None:
            return
        with suppress(ApiError, Crash), transaction.atomic():
            if what == "advance":
                self.standin.before = self.standin.after = None
                rollouts.advance(rollout.pk)
            else:
                getattr(rollouts, what)(rollout=rollout, cause=CAUSE)

    @rule(
        person=people,
        scope=st.sampled_from(["user", "plan", "model", "everyone", "lift", "disable", "enable"]),
        which=st.integers(0, 2),
    )
    def a_switch_is_thrown(self, person: User, scope: str, which: int) -> None:
        if scope in ("disable", "enable"):
            moment = timezone.now() if scope == "disable" else None
            GatewayModel.objects.filter(pk=self.models[which].pk).update(disabled_at=moment)
            for plan in self.plans:
                plan_changed.send(sender=None, plan=plan, cause=CAUSE)
        elif scope == "lift":
            for switch in KillSwitch.objects.filter(lifted_at=None):
                switches.lift(switch=switch, cause=CAUSE)
        else:
            targets: dict[str, Any] = {
                "user": person,
                "plan": self.plans[which],
                "model": self.models[which],
            }
            switches.pull(scope=scope, target=targets.get(scope), reason="x", cause=CAUSE)

    # The gateway, behind our back

    @rule(person=people, cents=st.integers(1, 400))
    def somebody_chats(self, person: User, cents: int) -> None:
        """On any key of theirs that the gateway lets them use."""
        for key in VirtualKey.objects.filter(user=person).exclude(secret=""):
            record = self.standin.keys.get(key.key_hash)
            if record is None or record.blocked or record.spend >= (record.max_budget or 0):
                continue
            amount = min(cents / 100, (record.max_budget or 0) - record.spend)
            record.spend += amount
            window = (record.metadata or {}).get("window", "")
            self.spent[person.pk, window] = self.spent.get((person.pk, window), 0) + amount
            return

    @rule(
        person=people,
        edit=st.sampled_from(
            [
                {"models": []},
                {"blocked": True},
                {"blocked": False},
                {"rpm_limit": 9999},
                {"team_id": None},
                {"budget_id": None},
                {"expires": 1.0},
                {"key_alias": "renamed"},
                {"user_id": "somebody"},
                "delete",
            ]
        ),
    )
    def staff_meddle_with_a_key(self, person: User, edit: Any) -> None:
        for key in VirtualKey.objects.filter(user=person):
            if key.key_hash not in self.standin.keys:
                continue
            if edit == "delete":
                self.inexact.add(person.pk)
                self.standin.lose(key)
            else:
                self.standin.edit(key, **edit)
            return

    @rule(plan=st.integers(0, 2), what=st.sampled_from(["team", "budget", "rates", "models"]))
    def staff_meddle_with_a_plan(self, plan: int, what: str) -> None:
        name = f"tesslate-{self.plans[plan].code}"
        store = self.standin.gateway.store
        if what == "rates" and name in store.budgets:
            store.budgets[name].rpm_limit = 99_999
            store.save_budget(store.budgets[name])
        elif what == "models" and name in store.teams:
            store.teams[name].models = []
            store.save_team(store.teams[name])
        elif what == "budget" and name in store.budgets:
            self.call("/budget/delete", {"id": name})
        elif what == "team" and name in store.teams:
            self.inexact |= set(User.objects.values_list("pk", flat=True))
            self.call("/team/delete", {"team_ids": [name]})

    def call(self, path: str, body: dict[str, Any]) -> None:
        self.standin.before = self.standin.after = None
        gateway.client()._call("POST", path, body)

    @rule()
    def somebody_else_makes_a_key(self) -> None:
        value = f"sk-foreign-{len(self.foreign):012}"
        self.standin.before = self.standin.after = None
        self.foreign.add(str(gateway.client().create_key(value, {"max_budget": 1})["token"]))

    @rule(chance=st.integers(0, 9))
    def another_gateway_is_taken_up(self, chance: int) -> None:
        """An empty one, now and then: what was spent at the old one is known as last seen only."""
        if chance != 7:
            return
        self.inexact |= set(User.objects.values_list("pk", flat=True))
        store = self.standin.gateway.store
        for key_hash in set(self.standin.keys) - self.foreign:
            store.delete_key(self.standin.keys[key_hash])
        for name in list(self.standin.teams):
            self.call("/team/delete", {"team_ids": [name]})
        for name in list(self.standin.budgets):
            self.call("/budget/delete", {"id": name})
        marking.mark_everything(cause=CAUSE)

    # Workers

    @rule(strikes=STRIKES, step=st.sampled_from(["sweep", "plans", "audit", "probes"]))
    def a_worker_works(self, strikes: Any, step: str) -> None:
        self.strike(strikes)
        with suppress(Crash), transaction.atomic():
            if step == "sweep":
                for _ in range(4):
                    if not reconcile.sync_batch(limit=4):
                        break
            elif step == "plans":
                shared_objects.sync_plans()
            elif step == "audit":
                audit.run_audit()
            else:
                VirtualKey.objects.filter(probe_at__isnull=False).update(probe_at=timezone.now())
                probes.probe_due()
        self.standin.before = self.standin.after = None

    @rule(dies=st.sampled_from(["after claim", "before recording"]))
    def a_worker_dies(self, dies: str) -> None:
        claimed = leases.claim(VirtualKey.objects.all(), limit=2)
        if dies == "after claim" or not claimed.ids:
            return
        with suppress(LiteLLMError), mock.patch.object(recording, "record", return_value=False):
            client = gateway.client()
            groups, _ = reconcile.prepare(client, claimed)
            reconcile.act(client, breaker.BatchBreaker(client), claimed, groups)

    @rule()
    def two_workers_overlap(self) -> None:
        """The first holds its keys while the second does all that it can."""
        client = gateway.client()
        claimed = leases.claim(VirtualKey.objects.all(), limit=2)
        with suppress(LiteLLMError):
            groups, postponed = reconcile.prepare(client, claimed)
            recording.record_postponed(claimed, postponed)
            reconcile.sync_batch(limit=8)
            done = reconcile.act(client, breaker.BatchBreaker(client), claimed, groups)
            leases.release(VirtualKey.objects.all(), claimed, done.untouched)

    @rule(hours=st.sampled_from([-5, -1, 1, 5]))
    def the_clock_of_a_worker_is_wrong(self, hours: int) -> None:
        wrong = timezone.now() + timedelta(hours=hours)
        with mock.patch.object(timezone, "now", return_value=wrong):
            shared_objects.sync_plans()
            reconcile.sync_batch(limit=4)

    @rule()
    def time_passes(self) -> None:
        """Leases end, waits end, the breaker looks again."""
        past = timezone.now() - timedelta(seconds=1)
        for model in (VirtualKey, PlanAtGateway):
            model._default_manager.filter(lease_until__isnull=False).update(lease_until=past)
            model._default_manager.update(next_attempt_at=past)
        GatewayState.objects.update(retry_at=past)
        breaker.try_to_close(gateway.client())

    def strike(self, strikes: Any) -> None:
        """Line up what will go wrong, and after how many calls."""
        queues: dict[str, list[tuple[int, str]]] = {"before": [], "after": []}
        for wait, (when, name) in strikes:
            queues[when].append((wait, name))

        def striking(queue: list[tuple[int, str]]) -> Fault | None:
            if not queue:
                return None
            left = [queue.pop(0)]

            def fault(request: httpx.Request) -> httpx.Response | None:
                if not left:
                    return None
                wait, name = left[0]
                if wait > 0:
                    left[0] = (wait - 1, name)
                    return None
                left.pop()
                if queue:
                    left.append(queue.pop(0))
                return FAULTS[name](request)

            return fault

        self.standin.before = striking(queues["before"])
        self.standin.after = striking(queues["after"])

    # The end

    def teardown(self) -> None:
        global histories_run
        try:
            if hasattr(self, "plans"):
                self.settle()
                self.judge()
            histories_run += 1
        finally:
            for patch in self.patches:
                patch.stop()
            gateway.use(None)
            self.standin.close()
            self.folder.cleanup()
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)

    def settle(self) -> None:
        self.standin.before = self.standin.after = None
        for rollout in Rollout.objects.filter(state="paused"):
            rollouts.resume(rollout=rollout, cause=CAUSE)
        for last in (False, True):
            self.sweep()
            if not last:
                run = audit.run_audit()
                assert run.state == "finished", run.error

    def sweep(self) -> None:
        """What llmkeys.tasks.sweep does, until nothing is left to do but wait."""
        for _ in range(12):
            self.time_passes()
            shared_objects.sync_plans()
            rollouts.advance_all()
            VirtualKey.objects.filter(probe_at__isnull=False).update(probe_at=timezone.now())
            PlanAtGateway.objects.filter(probe_at__isnull=False).update(probe_at=timezone.now())
            if not reconcile.drain(seconds=20) and not probes.probe_due():
                return

    def judge(self) -> None:
        for person in User.objects.select_related("current_entitlement__plan"):
            self.judge_person(person)
        live = set(VirtualKey.live.values_list("key_hash", flat=True))
        assert set(self.standin.keys) - self.foreign == live, "an orphan, or a key too few"
        assert self.foreign <= set(self.standin.keys), "a key that is not ours was touched"
        for plan in self.plans:
            self.judge_plan(Plan.objects.get(pk=plan.pk))

    def judge_person(self, person: User) -> None:
        entitlement = person.current_entitlement
        keys = list(VirtualKey.objects.filter(user=person))
        live = [key for key in keys if key.lifecycle != "retired"]
        if person.deleted_at is not None:
            assert not live, "a closed account has a live key"
        for key in keys:
            self.judge_key(key, person, entitlement)
        if live:
            self.judge_budget(person, live, entitlement.plan)

    def judge_key(self, key: VirtualKey, person: User, entitlement: CurrentEntitlement) -> None:
        assert key.is_in_step, f"{key!r} is behind: {key.last_error}"
        assert key.probe_for is None, f"{key!r} is still being watched"
        if key.lifecycle == "retired":
            assert key.key_hash not in self.standin.keys
            return
        row = self.standin.key(key)
        found = observe_key(gateway.client().get_key(key.key_hash) or {})
        assert differences(key.desired or {}, found) == [], f"{key!r} differs from what we want"
        assert key.observed is not None
        assert differences(key.observed, found) == [], f"{key!r} is not as we believe"
        may = gateway.client().probe(decrypt(key.secret))
        switched_off = KillSwitch.objects.filter(lifted_at=None, user=person).exists()
        if person.suspended_at or not person.is_active or key.blocked_at or switched_off:
            assert may.is_refused, f"{key!r} works although it must not"
        elif row.spend < (row.max_budget or 0):
            assert may.models == self.models_of(entitlement.plan), f"{key!r} has wrong models"
            with suppress(ApiError):
                assert credential_for(person.pk).key_id in {k.pk for k in [key]} | {
                    k.pk for k in VirtualKey.live.filter(user=person)
                }
        share = entitlement.limit_percent
        plan = Plan.objects.get(pk=entitlement.plan_id)
        assert row.team_id == row.budget_id == f"tesslate-{plan.code}"
        assert row.rpm_limit == (None if share == 100 else max(1, plan.rpm * share // 100))

    def judge_budget(self, person: User, live: list[VirtualKey], plan: Plan) -> None:
        """All keys together can spend what is left of one budget, and no more."""
        budget = Plan.objects.get(pk=plan.pk).budget_cents / 100
        rows = [self.standin.key(key) for key in live]
        windows = {(row.metadata or {})["window"] for row in rows}
        assert len(windows) == 1, "keys of one user are in different windows"
        left = sum(max(0.0, (row.max_budget or 0) - row.spend) for row in rows)
        assert left <= budget + CENT, f"user {person.pk} has more than one budget"
        if person.pk not in self.inexact:
            spent = self.spent.get((person.pk, windows.pop()), 0)
            assert left <= max(0.0, budget - spent) + CENT, f"user {person.pk} was given {left}"

    def models_of(self, plan: Plan) -> frozenset[str]:
        off = KillSwitch.objects.filter(lifted_at=None)
        if off.filter(scope="everyone").exists() or off.filter(plan=plan).exists():
            return frozenset()
        names = plan.gateway_models.filter(disabled_at=None).exclude(
            pk__in=off.filter(scope="model").values("gateway_model")
        )
        return frozenset(names.values_list("name", flat=True))

    def judge_plan(self, plan: Plan) -> None:
        name = f"tesslate-{plan.code}"
        if not PlanAtGateway.objects.filter(plan=plan).exists():
            return
        if name in self.standin.teams:
            models = set(self.standin.teams[name].models) - {"no-default-models"}
            assert self.standin.teams[name].models, "an empty list of models opens everything"
            assert models == self.models_of(plan)
            assert self.standin.budgets[name].rpm_limit == plan.rpm

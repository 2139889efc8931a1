"""The people, staff and gateway of random histories: whatever happens around our workers."""

import tempfile
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from accounts.models import User
from llmkeys import (
    gateway,
    marking,
    rollouts,
    rotation,
    services,
    switches,
    upkeep,
)
from llmkeys.models import KillSwitch, Rollout, VirtualKey
from plans.models import CurrentEntitlement, GatewayModel, Plan
from plans.signals import entitlements_changed, plan_changed
from tesslate.lib.cause import Cause
from tesslate.lib.errors import ApiError
from tests.llmkeys.standin import StandIn, client_of
from tests.llmkeys.strikes import Crash

CAUSE = Cause.system("history")
START = datetime.fromisoformat("2026-11-05T09:30:00+00:00")


class World(RuleBasedStateMachine):
    """In one database transaction, which whoever ends the history rolls back."""

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

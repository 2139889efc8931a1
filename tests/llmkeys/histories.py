"""Random histories of users, keys, staff and faults, and how they must end.

Each history happens in one database transaction that is rolled back. Workers are interleaved by
hand, so that each step can stop where a process can die: after its claim, between two calls to the
gateway, before a call has its effect and after it, before its results are written. In the end the
faults stop; one sweep, one audit and one more sweep later, every key must be as it should be,
judged by what the gateway then holds and does.
"""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest import mock

from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import rule

from llmkeys import (
    audit,
    breaker,
    gateway,
    leases,
    probes,
    reconcile,
    recording,
    rollouts,
    shared_objects,
)
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import GatewayState, PlanAtGateway, Rollout, VirtualKey
from tests.llmkeys.strikes import STRIKES, Crash, line_up
from tests.llmkeys.verdict import Verdict
from tests.llmkeys.world import CAUSE, World

histories_run = 0


class Histories(World):
    """Workers, and how each history ends."""

    # Workers

    @rule(strikes=STRIKES, step=st.sampled_from(["sweep", "plans", "audit", "probes"]))
    def a_worker_works(self, strikes: Any, step: str) -> None:
        line_up(self.standin, strikes)
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
        claimed = leases.claim(VirtualKey, limit=2)
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
        claimed = leases.claim(VirtualKey, limit=2)
        with suppress(LiteLLMError):
            groups, postponed = reconcile.prepare(client, claimed)
            recording.record_postponed(claimed, postponed)
            reconcile.sync_batch(limit=8)
            done = reconcile.act(client, breaker.BatchBreaker(client), claimed, groups)
            leases.release(VirtualKey, claimed, done.untouched)

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

    # The end

    def teardown(self) -> None:
        global histories_run
        try:
            if hasattr(self, "plans"):
                self.settle()
                Verdict(
                    self.standin, self.plans, self.foreign, self.spent, self.inexact
                ).everything()
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
                # A whole one: a walk taken up again saw its first pages before the faults stopped.
                run = audit.run_audit(resume=False)
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

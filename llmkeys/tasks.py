"""Wake-up calls. Each is a few lines around a step that tests call directly, and each could be lost
without harm: ``sweep`` finds the same work in the database."""

import logging

from celery import shared_task

from llmkeys import (
    addresses,
    audit,
    breaker,
    budget_notices,
    converge,
    gateway,
    overage,
    probes,
    reconcile,
    rollouts,
    shared_objects,
    spend_budgets,
    switches,
    upkeep,
)

logger = logging.getLogger(__name__)


NOTICES_A_TURN = 200


@shared_task
def sync_keys(key_ids: list[int]) -> None:
    reconcile.sync_keys(key_ids)


@shared_task
def sync_plans(plan_ids: list[int]) -> None:
    shared_objects.sync_plans(plan_ids)


@shared_task
def drain() -> None:
    reconcile.drain()


@shared_task
def advance_rollouts() -> None:
    """Begins anew as long as there is more to do, so that other work gets its turn between."""
    if rollouts.advance_all():
        advance_rollouts.delay()


@shared_task
def audit_keys() -> None:
    audit.run_audit()


@shared_task
def check_convergence() -> None:
    """Differences are told in the log, in the metrics and to staff; the audit mends them."""
    report = converge.check(tell=lambda difference: logger.warning("Differs: %s", difference))
    if report.converged:
        logger.info("Billing, entitlements, keys and the gateway agree")


@shared_task(expires=5)
def sweep() -> None:
    """Every few seconds: whatever is behind, due or to be proved."""
    upkeep.keep_time()
    if addresses.follow() and breaker.try_to_close(gateway.client()):
        shared_objects.sync_plans()
        reconcile.drain(seconds=20)
        probes.probe_due()
        switches.prove_due()


@shared_task
def check_spending() -> None:
    """What every half minute's pass should have seen by itself is looked at as a whole."""
    overage.measure_all()
    spend_budgets.evaluate_all()


@shared_task
def send_budget_notices() -> None:
    """As many as fit into a turn; the rest waits for the next."""
    for _ in range(NOTICES_A_TURN):
        if not budget_notices.send_next():
            return

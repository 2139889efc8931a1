"""Wake-up calls. Each is a few lines around a step that tests call directly, and each could be lost
without harm: ``sweep`` finds the same work in the database."""

from celery import shared_task

from llmkeys import breaker, gateway, probes, reconcile, shared_objects, upkeep


@shared_task(queue="default")
def sync_keys(key_ids: list[int]) -> None:
    reconcile.sync_keys(key_ids)


@shared_task(queue="default")
def sync_plans(plan_ids: list[int]) -> None:
    shared_objects.sync_plans(plan_ids)


@shared_task(queue="bulk")
def drain() -> None:
    reconcile.drain()


@shared_task(queue="default", expires=5)
def sweep() -> None:
    """Every few seconds: whatever is behind, due or to be proved."""
    upkeep.keep_time()
    if breaker.try_to_close(gateway.client()):
        shared_objects.sync_plans()
        reconcile.drain(seconds=20)
        probes.probe_due()

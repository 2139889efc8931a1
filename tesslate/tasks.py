from celery import shared_task

from tesslate import heartbeat


@shared_task(expires=heartbeat.STALE_SECONDS)
def beat() -> None:
    heartbeat.beat()

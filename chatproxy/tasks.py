"""Celery's entrances to the ledger's upkeep."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings

from chatproxy import partitions


@shared_task(name="chatproxy.make_partitions")
def make_partitions() -> None:
    partitions.make_partitions()


@shared_task(name="chatproxy.drop_old")
def drop_old() -> None:
    partitions.drop_partitions(older_than=timedelta(days=settings.CHAT_LEDGER_DAYS))
    partitions.drop_content(older_than=timedelta(days=settings.CHAT_CONTENT_DAYS))

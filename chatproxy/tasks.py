"""Celery's entrances to the ledger's upkeep, and to the books of usage."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings

from chatproxy import guard, partitions, usage, usage_check, usage_retention
from llmkeys import breaker, overage, spend_budgets
from llmkeys.litellm_errors import LiteLLMError

logger = logging.getLogger(__name__)

MAILS_A_TURN = 100


@shared_task(name="chatproxy.make_partitions")
def make_partitions() -> None:
    partitions.make_partitions()


@shared_task(name="chatproxy.drop_old")
def drop_old() -> None:
    partitions.drop_partitions(older_than=timedelta(days=settings.CHAT_LEDGER_DAYS))
    partitions.drop_content(older_than=timedelta(days=settings.CHAT_CONTENT_DAYS))
    usage_retention.drop_entries(older_than=timedelta(days=settings.USAGE_ENTRY_DAYS))


@shared_task(name="chatproxy.import_usage")
def import_usage() -> None:
    """While the gateway is known to be down nothing is asked of it; the watermark waits."""
    if breaker.is_open():
        return
    try:
        usage.import_usage()
        overage.measure()
        spend_budgets.evaluate()
    except LiteLLMError as error:
        logger.warning("the spend log could not be read to its end: %s", error)


@shared_task(name="chatproxy.check_usage")
def check_usage() -> None:
    usage_check.check_usage()


@shared_task(name="chatproxy.guard_spend")
def guard_spend() -> None:
    """As many mails as fit into a turn; the rest waits for the next."""
    guard.watch()
    for _ in range(MAILS_A_TURN):
        if not guard.tell_next():
            return

"""Wake-up calls: each a line around a step that tests call directly."""

from celery import shared_task

from accounts import erasure


@shared_task(name="accounts.erase_identities")
def erase_identities() -> None:
    erasure.erase_identities()

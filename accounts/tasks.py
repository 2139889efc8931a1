"""Wake-up calls: each a line around a step that tests call directly."""

from celery import shared_task

from accounts import erasure, invitations
from accounts.sessions import SessionStore


@shared_task(name="accounts.erase_identities")
def erase_identities() -> None:
    erasure.erase_identities()


@shared_task(name="accounts.clear_sessions")
def clear_sessions() -> None:
    SessionStore.clear_expired()


@shared_task(name="accounts.forget_invitations")
def forget_invitations() -> None:
    invitations.forget_declined()

"""Where somebody is signed in: Django's database sessions, with whose they are and from where.

Set as SESSION_ENGINE. The model follows Django's own recipe for extending database sessions.
"""

from datetime import datetime
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.http import HttpRequest
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import BrowserSession, User
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import sha256_hex
from tesslate.lib.throttling import client_address

AGENT, ADDRESS = "_agent", "_address"


class SessionStore(DatabaseStore):
    """Fills the extra columns from the session's own data whenever it is saved."""

    @classmethod
    def get_model_class(cls) -> type[BrowserSession]:
        return BrowserSession

    def create_model_instance(self, data: dict[str, Any]) -> BrowserSession:
        row = super().create_model_instance(data)
        assert isinstance(row, BrowserSession)
        user_id = data.get(SESSION_KEY)
        row.public_id = sha256_hex(row.session_key)[:32]
        row.user_id = int(user_id) if user_id else None
        row.agent = str(data.get(AGENT, ""))
        row.address = str(data.get(ADDRESS, "")) or None
        row.saved_at = timezone.now()
        return row


def remember_where(sender: Any, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    """On signing in: what the session list shows. Connected to user_logged_in in apps.py."""
    if request is None:
        return
    request.session[AGENT] = request.META.get("HTTP_USER_AGENT", "")[:300]
    request.session[ADDRESS] = client_address(request) or ""


def connect() -> None:
    user_logged_in.connect(remember_where, dispatch_uid="accounts.remember_where")


def sessions_of(user: User, *, at: datetime | None = None) -> list[BrowserSession]:
    """Where the user is signed in, the newest first."""
    return list(
        BrowserSession.objects.filter(user=user, expire_date__gt=at or timezone.now()).order_by(
            "-saved_at"
        )[:50]
    )


def end_session(*, user: User, session_id: str, cause: Cause) -> bool:
    """Sign the user out there. False when it is not theirs, or over already."""
    deleted, _ = BrowserSession.objects.filter(user=user, public_id=session_id).delete()
    if deleted:
        record_act(action="user.session_ended", cause=cause, target=user, user=user)
    return bool(deleted)


def end_other_sessions(*, user: User, but: str | None, cause: Cause) -> int:
    """Sign the user out everywhere but in the session with the key ``but``; returns how many."""
    deleted, _ = BrowserSession.objects.filter(user=user).exclude(session_key=but or "").delete()
    if deleted:
        record_act(action="user.other_sessions_ended", cause=cause, target=user, user=user)
    return deleted

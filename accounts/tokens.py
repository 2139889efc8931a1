"""Personal API tokens: made, checked, revoked."""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.audit import record_act
from accounts.errors import AccountDeleted, AccountInactive, TokenExpired, TooManyTokens
from accounts.models import ApiToken, User
from tesslate.lib.cause import Cause
from tesslate.lib.changes import publish
from tesslate.lib.crypto import sha256_hex
from tesslate.lib.errors import InvalidToken

PREFIX = "tk-"
SHOWN_CHARACTERS = 11
LONGEST_TOKEN = 100
MOST_TOKENS = 25
# Last use is for people: one write in this time is enough.
USE_NOTED_EVERY = timedelta(minutes=1)


@transaction.atomic
def create_token(
    *, user: User, name: str, scopes: Iterable[str], expires_at: datetime | None, cause: Cause
) -> tuple[ApiToken, str]:
    """Make a token; returns its row and its value, which cannot be had again.

    Raises TooManyTokens.
    """
    User.objects.select_for_update().get(pk=user.pk)
    if live_tokens(user).count() >= MOST_TOKENS:
        raise TooManyTokens
    value = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        prefix=value[:SHOWN_CHARACTERS],
        token_hash=sha256_hex(value),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    record_act(
        action="token.created",
        cause=cause,
        target=token,
        user=user,
        after={"name": name, "scopes": token.scopes},
    )
    return token, value


@transaction.atomic
def rename_token(*, user: User, token_id: int, name: str, cause: Cause) -> bool:
    """Call a live token of the user something else. False when there is none, or none any more."""
    token = live_tokens(user).select_for_update().filter(pk=token_id).first()
    if token is None:
        return False
    if token.name != name:
        before, token.name = token.name, name
        token.save(update_fields=["name"])
        record_act(
            action="token.renamed",
            cause=cause,
            target=token,
            user=user,
            before={"name": before},
            after={"name": name},
        )
    return True


@transaction.atomic
def revoke_token(*, token_id: int, cause: Cause) -> bool:
    """End a token at once, also where processes remember it. False when it had ended before."""
    token = ApiToken.objects.select_for_update().select_related("user").get(pk=token_id)
    if token.revoked_at is not None:
        return False
    token.revoked_at = timezone.now()
    token.save(update_fields=["revoked_at"])
    record_act(
        action="token.revoked",
        cause=cause,
        target=token,
        user=token.user,
        before={"name": token.name, "scopes": token.scopes},
    )
    publish([token.user_id])
    return True


def is_api_token(value: str) -> bool:
    return value.startswith(PREFIX)


def find_token(value: str) -> ApiToken:
    """The live token with this value, its user loaded; notes its use.

    Raises InvalidToken or TokenExpired (401), AccountInactive or AccountDeleted (403).
    """
    if not is_api_token(value) or len(value) > LONGEST_TOKEN:
        raise InvalidToken
    token = ApiToken.objects.select_related("user").filter(token_hash=sha256_hex(value)).first()
    if token is None or token.revoked_at is not None:
        raise InvalidToken
    now = timezone.now()
    if not token.is_valid_at(now):
        raise TokenExpired
    if token.user.deleted_at is not None:
        raise AccountDeleted
    if not token.user.is_active:
        raise AccountInactive
    _note_use(token, now)
    return token


def live_tokens(user: User) -> QuerySet[ApiToken]:
    """Tokens of a user that work at this moment."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return user.api_tokens.filter(unexpired, revoked_at=None)


def _note_use(token: ApiToken, now: datetime) -> None:
    if token.last_used_at is None or now - token.last_used_at >= USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        token.last_used_at = now

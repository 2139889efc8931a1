"""Keys at the gateway that we did not make: other systems may keep theirs there, and so does
whoever got hold of the master key. Staff vouch for the former and remove the latter; nothing here
happens by itself."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import transaction

from accounts.audit import record_act
from llmkeys import gateway
from llmkeys.errors import KeyIsOurs, KeyIsTrusted
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.models import AuditFinding, TrustedKey, VirtualKey
from llmkeys.spec import money
from tesslate.lib.cause import Cause
from tesslate.lib.currencies import dollars


def trust(*, key_hash: str, alias: str, reason: str, cause: Cause) -> TrustedKey:
    """Vouch for a key: audits count it apart and no longer list it. Repeating it changes nothing.

    Raises KeyIsOurs.
    """
    _refuse_ours(key_hash)
    with transaction.atomic():
        trusted, is_new = TrustedKey.objects.get_or_create(
            key_hash=key_hash,
            defaults={"alias": alias, "reason": reason, "trusted_by_id": cause.actor_id},
        )
        if is_new:
            record_act(
                action="foreign_key.trusted",
                cause=cause,
                target=trusted,
                reason=reason,
                after=_named(key_hash, alias),
            )
    return trusted


def distrust(*, trusted: TrustedKey, cause: Cause) -> None:
    """Take that back: the next audit lists the key again."""
    with transaction.atomic():
        record_act(
            action="foreign_key.distrusted",
            cause=cause,
            target=trusted,
            before={**_named(trusted.key_hash, trusted.alias), "reason": trusted.reason},
        )
        trusted.delete()


def refuse_removal(key_hash: str) -> None:
    """Raise KeyIsOurs or KeyIsTrusted where ``remove`` would."""
    _refuse_ours(key_hash)
    if TrustedKey.objects.filter(key_hash=key_hash).exists():
        raise KeyIsTrusted


def remove(*, key_hash: str, alias: str = "", reason: str, cause: Cause) -> None:
    """Delete a key that is not ours at the gateway. One that is gone already counts as removed.

    A process of the gateway that shares no Redis with the others may go on accepting it for up to
    a minute. Raises KeyIsOurs, KeyIsTrusted, and LiteLLMError when it may still be there; the
    attempt is recorded either way.
    """
    refuse_removal(key_hash)
    named = _named(key_hash, alias)
    try:
        gateway.client().delete_key(key_hash)
    except LiteLLMError as error:
        failed = {**named, "error": str(error)[:500]}
        record_act(action="foreign_key.removal_failed", cause=cause, reason=reason, before=failed)
        raise
    with transaction.atomic():
        record_act(action="foreign_key.removed", cause=cause, reason=reason, before=named)
        AuditFinding.objects.filter(gateway_id=key_hash).update(repaired=True)


def told(row: Mapping[str, Any]) -> str:
    """The gateway's row of such a key, for people: what it may do, and since when."""
    budget, models = money(row.get("max_budget")), row.get("models") or []
    parts = [
        "no budget limit" if budget is None else f"budget {dollars(budget)}",
        "all models" if not models else ", ".join(map(str, models)),
        f"spent {dollars(money(row.get('spend')) or Decimal(0))}",
        f"made {str(row.get('created_at') or 'at an unknown time')[:16].replace('T', ' ')}",
    ]
    if maker := row.get("created_by"):
        parts.append(f"by {maker}")
    return "; ".join(parts)


def _refuse_ours(key_hash: str) -> None:
    if VirtualKey.objects.filter(key_hash=key_hash).exists():
        raise KeyIsOurs


def _named(key_hash: str, alias: str) -> dict[str, str]:
    return {"key_hash": key_hash, "alias": alias}

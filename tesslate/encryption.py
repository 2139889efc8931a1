"""Exchange the key that stored secrets are encrypted under."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db import transaction

from llmkeys.models import VirtualKey
from tesslate.lib.crypto import CannotDecrypt, reencrypt


@dataclass(slots=True)
class Outcome:
    changed: int = 0
    current: int = 0
    unreadable: list[int] = field(default_factory=list)


def reencrypt_all(*, batch: int, progress: Callable[[int, int], None]) -> Outcome:
    """Bring every stored secret under the first of ENCRYPTION_KEYS, batch by batch.

    A secret that is under it already is left alone, so a run that was interrupted is simply
    repeated. What no key opens is reported and left as it is.
    """
    newest = Fernet(settings.ENCRYPTION_KEYS[0].encode())
    outcome = Outcome()
    rows = VirtualKey.objects.exclude(secret="").order_by("pk")
    total, done, last = rows.count(), 0, 0
    while True:
        with transaction.atomic():
            part = list(rows.filter(pk__gt=last).select_for_update(no_key=True)[:batch])
            for key in part:
                _reencrypt(key, newest, outcome)
        if not part:
            return outcome
        last = part[-1].pk
        done += len(part)
        progress(done, total)


def _reencrypt(key: VirtualKey, newest: Fernet, outcome: Outcome) -> None:
    try:
        newest.decrypt(key.secret.encode())
    except InvalidToken:
        pass
    else:
        outcome.current += 1
        return
    try:
        secret = reencrypt(key.secret)
    except CannotDecrypt:
        outcome.unreadable.append(key.pk)
        return
    VirtualKey.objects.filter(pk=key.pk).update(secret=secret)
    outcome.changed += 1

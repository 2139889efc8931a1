"""What is stored encrypted, and how the key that it is encrypted under is exchanged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.db import transaction
from django.db.models import Model, QuerySet

from chatproxy.models import ChatContent
from llmkeys.models import SpendBudget, VirtualKey
from tesslate.lib.crypto import CannotDecrypt, decrypt, reencrypt


@dataclass(frozen=True, slots=True)
class Column:
    """A column that holds what tesslate.lib.crypto.encrypt returned, or nothing."""

    model: type[Model]
    name: str
    # The column that tells old rows from new ones.
    age: str = "pk"

    def filled(self) -> QuerySet[Any]:
        return self.model._default_manager.exclude(**{self.name: ""}).only("pk", self.name)

    def sample(self, size: int) -> Iterator[str]:
        """The oldest and the newest: between them lie most keys that were ever in use."""
        for order in (self.age, f"-{self.age}"):
            yield from self.filled().order_by(order).values_list(self.name, flat=True)[:size]


# All of them: dropping an old key loses what is missing here. (Answers that chatproxy.idempotency
# keeps in Valkey are gone after minutes.)
COLUMNS = (
    Column(VirtualKey, "secret"),
    Column(SpendBudget, "webhook_secret"),
    Column(ChatContent, "encrypted", age="created_at"),
)


@dataclass(slots=True)
class Outcome:
    """Numbers of values; ``unreadable`` names the rows that no key opens."""

    changed: int = 0
    current: int = 0
    unreadable: list[str] = field(default_factory=list)


def reencrypt_all(*, batch: int, progress: Callable[[int, int], None]) -> Outcome:
    """Bring every stored value under the first of ENCRYPTION_KEYS, batch by batch.

    A value that is under it already is left alone, so a run that was interrupted is simply
    repeated. What no key opens is reported and left as it is.
    """
    outcome = Outcome()
    total, done = sum(column.filled().count() for column in COLUMNS), 0
    for column in COLUMNS:
        for count in _walk(column, batch, outcome):
            done += count
            progress(done, total)
    return outcome


def sample_opens(*, size: int = 20) -> tuple[int, list[str]]:
    """How many values were tried, and in which columns (model.column) one cannot be opened."""
    tried, closed = 0, []
    for column in COLUMNS:
        try:
            for value in set(column.sample(size)):
                decrypt(value)
                tried += 1
        except CannotDecrypt:
            closed.append(f"{column.model.__name__}.{column.name}")
    return tried, closed


def _walk(column: Column, batch: int, outcome: Outcome) -> Iterator[int]:
    newest = Fernet(settings.ENCRYPTION_KEYS[0].encode())
    rows = column.filled().order_by("pk")
    part: list[Model] = []
    while True:
        rest = rows.filter(pk__gt=part[-1].pk) if part else rows
        with transaction.atomic():
            part = list(rest.select_for_update(no_key=True)[:batch])
            for row in part:
                _reencrypt(row, column, newest, outcome)
        if not part:
            return
        yield len(part)


def _reencrypt(row: Model, column: Column, newest: Fernet, outcome: Outcome) -> None:
    stored: str = getattr(row, column.name)
    try:
        newest.decrypt(stored.encode())
    except InvalidToken:
        pass
    else:
        outcome.current += 1
        return
    try:
        value = reencrypt(stored)
    except CannotDecrypt:
        outcome.unreadable.append(f"{column.model._meta.verbose_name} {row.pk}")
        return
    column.model._default_manager.filter(pk=row.pk).update(**{column.name: value})
    outcome.changed += 1

"""Bring everything that is stored encrypted under the first of ENCRYPTION_KEYS."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tesslate.encryption import reencrypt_all


class Command(BaseCommand):
    help = (
        "Encrypt anew under the first of ENCRYPTION_KEYS: virtual keys, the secrets of budgets' "
        "webhooks, and kept conversations. Starts again where it stopped, and does nothing to "
        "what is done. Afterwards the old key may be removed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--batch", type=int, default=500)

    def handle(self, *args: Any, **options: Any) -> None:
        result = reencrypt_all(batch=options["batch"], progress=self._progress)
        self.stderr.write("")
        self.stdout.write(f"{result.changed} encrypted anew, {result.current} were already")
        if result.unreadable:
            named = ", ".join(result.unreadable[:20])
            raise CommandError(
                f"{len(result.unreadable)} cannot be opened with any of ENCRYPTION_KEYS: {named}"
            )

    def _progress(self, done: int, total: int) -> None:
        self.stderr.write(f"\r{done} of {total}", ending="")

"""Delete keys at the gateway that we did not make."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmkeys import foreign, gateway
from llmkeys.litellm_errors import LiteLLMError
from tesslate.lib.cause import Cause
from tesslate.lib.errors import ApiError


class Command(BaseCommand):
    help = (
        "Delete the named keys at the gateway, if they are not ours, after showing what they are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("hashes", nargs="+", metavar="HASH", help="As audit_keys shows it.")
        parser.add_argument("--reason", required=True, help="Why, for the audit log.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = self._look(options["hashes"])
        except LiteLLMError as error:
            raise CommandError(f"nothing removed: {error}") from None
        if found and not options["yes"] and not self._agreed(len(found)):
            raise CommandError("nothing removed")
        cause = Cause.system("remove_foreign_keys")
        for key_hash, alias in found.items():
            try:
                foreign.remove(
                    key_hash=key_hash, alias=alias, reason=options["reason"], cause=cause
                )
            except (ApiError, LiteLLMError) as error:
                raise CommandError(f"{key_hash}: {error}") from None
            self.stdout.write(f"removed {key_hash}")

    def _look(self, hashes: list[str]) -> dict[str, str]:
        """Their aliases; all of them may be removed."""
        found: dict[str, str] = {}
        for key_hash in hashes:
            try:
                foreign.refuse_removal(key_hash)
            except ApiError as error:
                raise CommandError(f"nothing removed: {key_hash}: {error.message}") from None
            row = gateway.client().get_key(key_hash)
            if row is None:
                self.stdout.write(f"{key_hash} is not at the gateway")
                continue
            found[key_hash] = str(row.get("key_alias") or "")
            self.stdout.write(f"{key_hash} {found[key_hash]}\n  {foreign.told(row)}")
        return found

    def _agreed(self, count: int) -> bool:
        self.stdout.write(f"Remove {count} at the gateway for good? Type yes: ", ending="")
        self.stdout.flush()
        return input().strip() == "yes"

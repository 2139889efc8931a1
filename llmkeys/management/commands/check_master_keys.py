"""Which of the gateway's master keys work?"""

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from llmkeys import gateway
from llmkeys.litellm_errors import LiteLLMError


class Command(BaseCommand):
    help = (
        "Try each of LITELLM_MASTER_KEYS, or with --candidate one read from standard input, so "
        "that a new master key is known to work before the old one is taken away."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--candidate", action="store_true", help="Read the key to try from standard input."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Not as an argument: command lines end up in shell histories and process lists.
        keys = [sys.stdin.readline().strip()] if options["candidate"] else None
        keys = settings.LITELLM_MASTER_KEYS if keys is None else keys
        try:
            works = [gateway.client().accepts(key) for key in keys]
        except LiteLLMError as error:
            raise CommandError(f"the gateway cannot be asked: {error}") from None
        for key, accepted in zip(keys, works, strict=True):
            self.stdout.write(f"…{key[-4:]}  {'accepted' if accepted else 'refused'}")
        if options["candidate"] and works[0]:
            self.stdout.write("Put it first in LITELLM_MASTER_KEYS, keep the old one behind it.")
        if not any(works):
            raise CommandError("no key is accepted")

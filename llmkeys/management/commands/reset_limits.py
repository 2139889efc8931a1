"""Start a user's budget window afresh."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from llmkeys import services
from llmkeys.people import user_named
from tesslate.lib.cause import Cause


class Command(BaseCommand):
    help = "Set the spend of the user's present budget window to zero, once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        user = user_named(options["email"])
        cause = Cause.system("reset_limits")
        services.reset_spend(user=user, reason=options["reason"], cause=cause)
        self.stdout.write("The gateway follows in a moment.")

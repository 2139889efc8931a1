"""Why may, or may not, this user call this model?"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmkeys.explain import explain_access, is_allowed
from llmkeys.people import user_named

MARKS = {True: "yes", False: "NO ", None: "   "}


class Command(BaseCommand):
    help = "Print the whole chain of reasons, from the account to the gateway."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("model")

    def handle(self, *args: Any, **options: Any) -> None:
        links = explain_access(user_named(options["email"]), options["model"])
        for link in links:
            self.stdout.write(f"{MARKS[link.holds]}  {link.fact}")
        if not is_allowed(links):
            raise CommandError("no access")
        self.stdout.write("access")

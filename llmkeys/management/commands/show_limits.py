"""A user's limits, side by side."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from llmkeys.limits import side_by_side
from llmkeys.people import user_named


class Command(BaseCommand):
    help = "Show a user's limits as the plan, as desired and as observed at the gateway."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        line = "{:<7}{:<24}{:<28}{:<28}{:<28}{}"
        self.stdout.write(line.format("key", "limit", "plan", "desired", "observed", ""))
        for row in side_by_side(user_named(options["email"])):
            self.stdout.write(
                line.format(
                    row["key"],
                    row["limit"],
                    *(str(row[column]) for column in ("plan", "desired", "observed")),
                    "" if row["in_step"] else "differs",
                )
            )

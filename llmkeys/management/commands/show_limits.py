"""A user's limits, side by side."""

from argparse import ArgumentParser
from itertools import zip_longest
from typing import Any

from django.core.management.base import BaseCommand

from llmkeys.limits import side_by_side
from llmkeys.people import user_named


class Command(BaseCommand):
    help = "Show a user's limits as the plan, as desired and as observed at the gateway."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = side_by_side(user_named(options["email"]))
        self._line("key", "limit", "plan", "desired", "observed", "")
        for row in rows:
            sides = [_lines(row[side]) for side in ("plan", "desired", "observed")]
            head = (row["key"], row["limit"], "" if row["in_step"] else "differs")
            for key, limit, mark, *cells in zip_longest(
                *([word] for word in head), *sides, fillvalue=""
            ):
                self._line(key, limit, *cells, mark)

    def _line(self, *cells: str) -> None:
        self.stdout.write("{:<7}{:<24}{:<28}{:<28}{:<28}{}".format(*cells).rstrip())


def _lines(value: Any) -> list[str]:
    """A list takes a line for each of its items."""
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]

"""Watch chat requests as they end."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from chatproxy.models import ChatRequest
from chatproxy.recent import Tail, describe
from llmkeys.people import user_named

EVERY_SECONDS = 1.0


class Command(BaseCommand):
    help = "Print the last chat requests, and with --follow every further one as it ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lines", "-n", type=int, default=20)
        parser.add_argument("--follow", "-f", action="store_true", help="until Ctrl-C")
        parser.add_argument("--user", help="e-mail address or id")
        parser.add_argument("--model")
        parser.add_argument("--outcome", choices=ChatRequest.Outcome.values)

    def handle(self, *args: Any, **options: Any) -> None:
        filters = {name: options[name] for name in ("model", "outcome") if options[name]}
        if options["user"]:
            filters["user_id"] = user_named(options["user"]).pk
        tail = Tail(**filters)
        self._print(tail.last(options["lines"]))
        try:
            while options["follow"]:
                time.sleep(EVERY_SECONDS)
                self._print(tail.new())
        except KeyboardInterrupt:
            return

    def _print(self, rows: list[ChatRequest]) -> None:
        for line in describe(rows):
            self.stdout.write(line)
        self.stdout.flush()

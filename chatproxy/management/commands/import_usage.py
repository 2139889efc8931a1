"""Read the gateway's spend log into our books now."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatproxy.usage import import_usage
from llmkeys.litellm_errors import LiteLLMError
from llmkeys.usage_import import Report
from tesslate.lib.arguments import a_moment


class Command(BaseCommand):
    help = (
        "Copy the gateway's spend log into our books, from where the last run stopped. Repeating "
        "it changes nothing; an interrupted run goes on where it was."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--since",
            type=a_moment,
            help="Read from this date or moment (UTC) on instead, for rows that came very late.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = import_usage(since=options["since"], progress=self._progress)
        except LiteLLMError as error:
            raise CommandError(f"The gateway does not answer: {error}") from error
        if report is None:
            raise CommandError("Another worker is importing. Try again in a minute.")
        self.stdout.write(
            f"{report.read} rows read, {report.added} new, {report.unreadable} unreadable"
        )

    def _progress(self, until: datetime, report: Report) -> None:
        self.stderr.write(f"until {until:%Y-%m-%d %H:%M}: {report.added} new of {report.read}")

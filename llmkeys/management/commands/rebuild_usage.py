"""Count usage by hour and day anew from its entries."""

from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand

from llmkeys.usage_books import days_with_entries, rebuild
from tesslate.lib.arguments import a_date


class Command(BaseCommand):
    help = (
        "Count the sums of usage by hour and day anew, a day at a time, while importing goes on. "
        "Safe to interrupt and to repeat."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=a_date, help="YYYY-MM-DD")
        parser.add_argument("--to", dest="last", type=a_date, help="Included.")

    def handle(self, *args: Any, **options: Any) -> None:
        first, last = options["first"] or date.min, options["last"] or date.max
        days = [day for day in days_with_entries() if first <= day <= last]
        done = 0

        def progress(day: date) -> None:
            nonlocal done
            done += 1
            self.stderr.write(f"{day}: {done} of {len(days)}")

        self.stdout.write(f"{rebuild(days, progress=progress)} days counted anew")

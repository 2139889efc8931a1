"""Who uses what right now?"""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from chatproxy.recent import usage_since


class Command(BaseCommand):
    help = "Show requests, tokens and cost of the last hour by user and model, dearest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--hours", type=float, default=1.0)
        parser.add_argument("--top", type=int, default=50, help="lines at most")

    def handle(self, *args: Any, **options: Any) -> None:
        lines = usage_since(timezone.now() - timedelta(hours=options["hours"]))
        form = "{:<32}{:<28}{:>9}{:>9}{:>8}{:>12}{:>13}"
        titles = ("user", "model", "requests", "refused", "failed", "tokens", "dollars")
        self.stdout.write(form.format(*titles))
        for line in lines[: options["top"]]:
            self.stdout.write(
                form.format(
                    line.user,
                    line.model,
                    line.requests,
                    line.refused,
                    line.failed,
                    line.tokens,
                    f"{line.cost:.6f}",
                )
            )
        if len(lines) > options["top"]:
            self.stdout.write(f"… and {len(lines) - options['top']} more")

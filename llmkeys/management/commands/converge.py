"""Is everything, from billing to the gateway, as it should be?"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmkeys import converge
from llmkeys.drift import drift_now


class Command(BaseCommand):
    help = "Compare billing, entitlements, keys and the gateway; exit with 1 on any difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="The only mode; for clarity.")
        parser.add_argument("--sample", type=int, default=20, help="Keys to try at the gateway.")

    def handle(self, *args: Any, **options: Any) -> None:
        report = converge.check(
            sample=options["sample"], tell=lambda found: self.stdout.write(str(found))
        )
        for stage, count in report.checked.items():
            self.stdout.write(f"{stage:<28}{count:>8} checked {report.differing[stage]:>6} differ")
        if not report.converged:
            raise CommandError(f"{sum(report.differing.values())} differences")
        if others := drift_now().foreign:
            self.stdout.write(f"{others} keys that are not ours: see audit_keys --dry-run")
        self.stdout.write("converged")

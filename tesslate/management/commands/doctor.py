"""Say what is wrong with this installation and what to do about it."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tesslate.doctor import FAILURE, OK, diagnose


class Command(BaseCommand):
    help = "Check everything that this installation depends on. Exits 1 when something has failed."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        failures = 0
        for diagnosis in diagnose():
            failures += diagnosis.state == FAILURE
            if options["json"]:
                self.stdout.write(json.dumps(asdict(diagnosis)))
                continue
            paint = {OK: self.style.SUCCESS, FAILURE: self.style.ERROR}.get(
                diagnosis.state, self.style.WARNING
            )
            self.stdout.write(
                f"{paint(f'{diagnosis.state:8}')} {diagnosis.name}: {diagnosis.finding}"
            )
            if diagnosis.remedy:
                self.stdout.write(f"         → {diagnosis.remedy}")
        if failures:
            raise CommandError(f"{failures} of these need you.")

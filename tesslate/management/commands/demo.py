"""Drive the whole story against a running system, from outside."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tesslate.story import Endpoints, Story, StoryFailed


class Command(BaseCommand):
    help = (
        "Sign up, chat on free, be refused, pay, chat on pro, see the usage, cancel: over HTTP "
        "only, against what `make run` started. Exits 1 at the first step that goes wrong."
    )
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--endpoints",
            type=Path,
            default=settings.DATA_DIR / "endpoints.json",
            help="the file that `make run` writes (default: %(default)s)",
        )
        parser.add_argument(
            "--patience",
            type=float,
            default=30.0,
            help="seconds to wait for each change to arrive (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            endpoints = Endpoints.read(options["endpoints"])
            with Story(endpoints, self.stdout.write, patience=options["patience"]) as story:
                story.tell()
        except StoryFailed as failure:
            raise CommandError(str(failure)) from None
        self.stdout.write(self.style.SUCCESS("The whole story holds."))

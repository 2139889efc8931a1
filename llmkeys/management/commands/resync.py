"""Read keys back from the gateway and put right what differs."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmkeys import marking, waiting
from llmkeys.models import PlanAtGateway, VirtualKey
from llmkeys.people import user_named
from tesslate.lib.arguments import a_number_from
from tesslate.lib.cause import Cause


class Command(BaseCommand):
    help = (
        "Sync one user's keys, or --all of them, reading the gateway first. Waits until each has "
        "been in step; exits with 1 when one has not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", nargs="?")
        parser.add_argument("--all", action="store_true")
        parser.add_argument(
            "--wait",
            type=a_number_from(0),
            default=waiting.PATIENCE_SECONDS,
            metavar="SECONDS",
            help="Give up once none has come into step for so long (%(default)s).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        keys = VirtualKey.objects.filter(removed_at=None)
        if options["email"]:
            keys = keys.filter(user=user_named(options["email"]))
        elif not options["all"]:
            raise CommandError("Name a user, or say --all.")
        cause = Cause.system("resync")
        marked = marking.mark_keys(keys, cause=cause, in_doubt=True)
        plans = list(PlanAtGateway.objects.values_list("pk", flat=True))
        marking.mark_plans(plans, cause=cause)
        waited = waiting.until_in_step(
            keys=marked, plans=plans, patience=options["wait"], progress=self._progress
        )
        self.stdout.write(
            f"{waited.keys.in_step} of {waited.keys.total} keys and "
            f"{waited.plans.in_step} of {waited.plans.total} plans in step"
        )
        if waited.problem:
            raise CommandError(waited.problem)

    def _progress(self, done: int, total: int) -> None:
        self.stderr.write(f"{done} of {total}")

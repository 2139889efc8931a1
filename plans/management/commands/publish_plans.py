from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plans.errors import StripeError
from plans.publishing import publish_plans
from tesslate.lib.cause import Cause


class Command(BaseCommand):
    help = "Create or adopt products and prices at Stripe for the plans; archive what was replaced."

    def add_arguments(self, parser: CommandParser) -> None:
        group = parser.add_mutually_exclusive_group(required=True)
        group.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        group.add_argument("--apply", action="store_true", help="Do it.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            steps = publish_plans(
                apply=options["apply"],
                cause=Cause.system("publish_plans"),
                tell=self.stdout.write,
            )
        except StripeError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{steps} steps{'' if options['apply'] else ' to do'}.")

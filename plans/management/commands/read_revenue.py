"""Read invoices from Stripe into our books of revenue."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from plans import revenue
from plans.errors import StripeError
from plans.models import RevenueInvoice
from tesslate.lib.arguments import a_moment


class Command(BaseCommand):
    help = (
        "Read every invoice since a date anew, with what was taken back of it. For a first start, "
        "and for what no webhook told. Repeating it changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--since",
            type=a_moment,
            default=timezone.now() - timedelta(days=40),
            help="YYYY-MM-DD; 40 days ago by default.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            noted = revenue.note_all(since=options["since"])
        except StripeError as error:
            raise CommandError(f"Stripe does not answer: {error}") from error
        done = 0
        while revenue.read_next():
            done += 1
            self.stderr.write(f"{done} of about {noted}")
        failed = RevenueInvoice.objects.exclude(last_error="").count()
        self.stdout.write(f"{noted} invoices at Stripe, {failed} could not be read")
        if failed:
            raise CommandError("See the invoices with an error in the admin; they are tried again.")

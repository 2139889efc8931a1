from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plans.errors import StripeError
from plans.reconciliation import Report, backfill_events, reconcile
from tesslate.lib.cause import Cause

PROGRESS_EVERY = 100


class Command(BaseCommand):
    help = "Compare every subscription at Stripe with ours and repair what differs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say what differs.")
        parser.add_argument(
            "--no-backfill", action="store_true", help="Do not look for events that never came."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run: bool = options["dry_run"]
        try:
            if not dry_run and not options["no_backfill"]:
                backfill = backfill_events()
                self.stdout.write(f"{backfill.listed} events listed, {backfill.added} were new.")
            report = reconcile(
                cause=Cause.system("reconcile"), dry_run=dry_run, progress=self._progress
            )
        except StripeError as error:
            raise CommandError(str(error)) from error
        for line in report.lines:
            self.stdout.write(line)
        repaired = "to repair" if dry_run else "repaired"
        self.stdout.write(
            f"{report.seen} subscriptions: {report.agreed} agreed, {report.repaired} {repaired}, "
            f"{report.orphans} without an owner, {report.failed} failed; "
            f"{report.entitlements_changed} entitlements changed."
        )
        if report.failed:
            raise CommandError("Some could not be read. Run it again.")

    def _progress(self, report: Report) -> None:
        if report.seen % PROGRESS_EVERY == 0:
            self.stderr.write(f"{report.seen} looked at, {len(report.lines)} differences")

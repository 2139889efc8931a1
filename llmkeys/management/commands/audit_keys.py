"""Compare every key at the gateway with what it should be."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmkeys import audit, reconcile, shared_objects
from llmkeys.drift import NOT_MADE_BY_US, described
from llmkeys.models import AuditFinding, AuditRun

SHOWN = 100


class Command(BaseCommand):
    help = "Walk through all keys at the gateway; repair what is ours, report the rest."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only report.")
        parser.add_argument("--repair", action="store_true", help="Repair, and wait for it.")

    def handle(self, *args: Any, **options: Any) -> None:
        run = audit.run_audit(repair=not options["dry_run"], progress=self._progress)
        self.stderr.write("")
        for kind, count in sorted(run.counts.items()):
            self.stdout.write(f"{kind:<20}{count:>10}")
        for finding in AuditFinding.objects.filter(run=run).order_by("pk")[:SHOWN]:
            self.stdout.write(f"  {finding} {described(finding)}".rstrip())
            # To remove it takes the whole hash.
            if finding.kind in NOT_MADE_BY_US and not finding.repaired:
                self.stdout.write(f"    {finding.gateway_id}")
        if options["repair"]:
            shared_objects.sync_plans()
            self.stdout.write(f"{'repaired':<20}{reconcile.drain(seconds=3600):>10}")
        if run.state != AuditRun.State.FINISHED:
            raise CommandError(f"not finished: {run.error}")

    def _progress(self, done: int, total: int) -> None:
        filled = 30 * done // max(total, 1)
        self.stderr.write(f"\r[{'#' * filled:<30}] {done} of {total}", ending="")

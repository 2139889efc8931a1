"""Compare every key at the gateway with what it should be."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmkeys import audit, waiting
from llmkeys.drift import NOT_MADE_BY_US, described
from llmkeys.models import AuditFinding, AuditRun
from tesslate.lib.arguments import a_number_from

SHOWN = 100


class Command(BaseCommand):
    help = (
        "Walk through all keys at the gateway and report what differs. What is ours is put behind, "
        "for the workers to repair, unless --dry-run; with --repair wait for that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--dry-run", action="store_true", help="Only report.")
        group.add_argument("--repair", action="store_true", help="Repair, and wait for it.")
        parser.add_argument(
            "--wait",
            type=a_number_from(0),
            default=waiting.PATIENCE_SECONDS,
            metavar="SECONDS",
            help="With --repair: give up once none was repaired for so long (%(default)s).",
        )

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
        if run.state != AuditRun.State.FINISHED:
            raise CommandError(f"not finished: {run.error}")
        if options["repair"]:
            self._wait(run, options["wait"])

    def _wait(self, run: AuditRun, patience: float) -> None:
        keys, plans = audit.put_behind(run)
        waited = waiting.until_in_step(
            keys=keys, plans=plans, patience=patience, progress=self._progress
        )
        self.stderr.write("")
        self.stdout.write(f"{'repaired':<20}{waited.in_step:>10}")
        if waited.problem:
            raise CommandError(waited.problem)

    def _progress(self, done: int, total: int) -> None:
        filled = 30 * done // max(total, 1)
        self.stderr.write(f"\r[{'#' * filled:<30}] {done} of {total}", ending="")

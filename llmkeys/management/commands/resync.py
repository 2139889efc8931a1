"""Read keys back from the gateway and put right what differs."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from llmkeys import marking, reconcile, shared_objects
from llmkeys.models import PlanAtGateway, VirtualKey
from llmkeys.people import user_named
from tesslate.lib.cause import Cause


class Command(BaseCommand):
    help = "Sync one user's keys, or --all of them, reading the gateway first. Waits for the end."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", nargs="?")
        parser.add_argument("--all", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        keys = VirtualKey.objects.filter(removed_at=None)
        if options["email"]:
            keys = keys.filter(user=user_named(options["email"]))
        elif not options["all"]:
            self.stderr.write("Name a user, or say --all.")
            return
        cause = Cause.system("resync")
        marked = marking.mark_keys(keys, cause=cause, in_doubt=True)
        plans = list(PlanAtGateway.objects.values_list("pk", flat=True))
        marking.mark_plans(plans, cause=cause)
        shared_objects.sync_plans()
        done = reconcile.drain(seconds=3600)
        self.stdout.write(f"{done} of {len(marked)} keys synced")

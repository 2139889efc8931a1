"""Rotate many keys, at a steady rate."""

import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from llmkeys import rotation
from llmkeys.models import VirtualKey
from tesslate.lib.cause import Cause
from tesslate.lib.errors import Conflict

Lifecycle = VirtualKey.Lifecycle


class Command(BaseCommand):
    help = (
        "Rotate every active key older than so many days. A key that has just replaced another is "
        "left alone while that one still works: rotating it would end the overlap early. So an "
        "interrupted run is simply started again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--older-than", type=int, default=0, metavar="DAYS")
        parser.add_argument("--rate", type=float, default=20, metavar="KEYS_PER_SECOND")
        parser.add_argument("--limit", type=int, default=None, metavar="KEYS")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["rate"] <= 0:
            raise CommandError("--rate must be more than 0")
        started = timezone.now()
        old = VirtualKey.objects.filter(
            lifecycle=Lifecycle.ACTIVE,
            created_at__lt=started - timedelta(days=options["older_than"]),
        )
        under_way = old.filter(replaces__lifecycle=Lifecycle.RETIRING).count()
        if under_way:
            self.stdout.write(
                f"{under_way} left alone: the key that they replaced works until its overlap ends"
            )
        waiting = old.exclude(replaces__lifecycle=Lifecycle.RETIRING).order_by("pk")
        ids = list(waiting.values_list("pk", flat=True)[: options["limit"]])
        changed = 0
        for done, pk in enumerate(ids, start=1):
            try:
                rotation.rotate_key(
                    key=VirtualKey.objects.get(pk=pk), cause=Cause.system("rotate_keys")
                )
            except Conflict:
                changed += 1
            time.sleep(1 / options["rate"])
            if done % 100 == 0 or done == len(ids):
                self.stdout.write(f"{done} of {len(ids)}")
        if changed:
            self.stdout.write(f"{changed} were rotated or retired by somebody else meanwhile")
        if not ids:
            self.stdout.write("No key to rotate")

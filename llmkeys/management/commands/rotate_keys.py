"""Rotate many keys, at a steady rate."""

import math
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from llmkeys import rotation
from llmkeys.models import VirtualKey
from tesslate.lib.arguments import a_number_from
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
        parser.add_argument("--older-than", type=a_number_from(0), default=0, metavar="DAYS")
        parser.add_argument("--rate", type=_rate, default=20, metavar="KEYS_PER_SECOND")
        parser.add_argument("--limit", type=a_number_from(1), default=None, metavar="KEYS")
        group = parser.add_mutually_exclusive_group(required=True)
        group.add_argument("--dry-run", action="store_true", help="Only say how many would be.")
        group.add_argument("--apply", action="store_true", help="Do it.")

    def handle(self, *args: Any, **options: Any) -> None:
        old = VirtualKey.objects.filter(
            lifecycle=Lifecycle.ACTIVE,
            created_at__lt=timezone.now() - timedelta(days=options["older_than"]),
        )
        under_way = old.filter(replaces__lifecycle=Lifecycle.RETIRING).count()
        if under_way:
            self.stdout.write(
                f"{under_way} left alone: the key that they replaced works until its overlap ends"
            )
        waiting = old.exclude(replaces__lifecycle=Lifecycle.RETIRING).order_by("pk")
        found = list(waiting.values_list("pk", "user_id")[: options["limit"]])
        if not found:
            self.stdout.write("No key to rotate.")
        elif options["apply"]:
            self._rotate([pk for pk, _ in found], 1 / options["rate"])
        else:
            customers = len({user_id for _, user_id in found})
            self.stdout.write(f"{len(found)} keys of {customers} customers to rotate.")

    def _rotate(self, ids: Sequence[int], pause: float) -> None:
        changed = 0
        for done, pk in enumerate(ids, start=1):
            try:
                rotation.rotate_key(
                    key=VirtualKey.objects.get(pk=pk), cause=Cause.system("rotate_keys")
                )
            except Conflict:
                changed += 1
            time.sleep(pause)
            if done % 100 == 0 or done == len(ids):
                self.stdout.write(f"{done} of {len(ids)}")
        if changed:
            self.stdout.write(f"{changed} were rotated or retired by somebody else meanwhile")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate

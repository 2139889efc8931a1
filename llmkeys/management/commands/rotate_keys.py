"""Rotate many keys, at a steady rate."""

import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from llmkeys import rotation
from llmkeys.models import VirtualKey
from tesslate.lib.cause import Cause


class Command(BaseCommand):
    help = (
        "Rotate every active key older than so many days. A key once rotated is no longer old, "
        "so an interrupted run is simply started again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--older-than", type=int, default=0, metavar="DAYS")
        parser.add_argument("--rate", type=float, default=20, metavar="KEYS_PER_SECOND")
        parser.add_argument("--limit", type=int, default=None, metavar="KEYS")

    def handle(self, *args: Any, **options: Any) -> None:
        cutoff = timezone.now() - timedelta(days=options["older_than"])
        old = VirtualKey.objects.filter(
            lifecycle=VirtualKey.Lifecycle.ACTIVE, created_at__lt=cutoff
        ).order_by("pk")
        total = min(old.count(), options["limit"] or old.count())
        for done, key in enumerate(old[:total].iterator(chunk_size=200), start=1):
            rotation.rotate_key(key=key, cause=Cause.system("rotate_keys"))
            time.sleep(1 / options["rate"])
            if done % 100 == 0 or done == total:
                self.stdout.write(f"{done} of {total}")

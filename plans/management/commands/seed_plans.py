from typing import Any

from django.core.management.base import BaseCommand

from plans.seeding import seed_plans


class Command(BaseCommand):
    help = "Make the plans, models and prices that are missing. Never changes what is there."

    def handle(self, *args: Any, **options: Any) -> None:
        seeded = seed_plans()
        for made in seeded.made:
            self.stdout.write(f"made {made}")
        self.stdout.write(f"{len(seeded.made)} made, the rest was there.")

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from plans.grandfathering import CannotMove, move_payers, successor_of
from plans.models import Price
from tesslate.lib.cause import Cause


class Command(BaseCommand):
    help = (
        "Move everybody who pays an old price to the one that replaced it. The new amount is owed "
        "from each one's next renewal on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("old", metavar="OLD_PRICE", help="Its id at Stripe.")
        parser.add_argument(
            "new", metavar="NEW_PRICE", nargs="?", help="Otherwise the plan's price on sale."
        )
        group = parser.add_mutually_exclusive_group(required=True)
        group.add_argument("--dry-run", action="store_true", help="Only say who would be moved.")
        group.add_argument("--apply", action="store_true", help="Do it.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            old = self._price(options["old"])
            new = self._price(options["new"]) if options["new"] else successor_of(old)
            moves = move_payers(
                old=old,
                new=new,
                apply=options["apply"],
                cause=Cause.system("migrate_price"),
                tell=self.stdout.write,
            )
        except CannotMove as error:
            raise CommandError(str(error)) from error
        if not options["apply"]:
            self.stdout.write(f"{moves.found} to move.")
            return
        self.stdout.write(f"{moves.found - moves.failed} moved, {moves.failed} not.")
        if moves.failed:
            raise CommandError("Some were not moved. Mend the cause and run it again.")

    def _price(self, stripe_price_id: str) -> Price:
        found = Price.objects.filter(stripe_price_id=stripe_price_id).select_related("plan").first()
        if found is None:
            raise CannotMove(f"{stripe_price_id} stands for no plan.")
        return found

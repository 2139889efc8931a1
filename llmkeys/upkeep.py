"""What becomes due by the clock alone."""

from django.db import transaction
from django.utils import timezone

from llmkeys import marking
from llmkeys.models import VirtualKey
from tesslate.lib.cause import Cause


def keep_time() -> None:
    """Retire keys whose overlap is over."""
    retire_due()


@transaction.atomic
def retire_due() -> int:
    """End the overlap of replaced keys whose time has come; how many."""
    due = VirtualKey.objects.filter(
        lifecycle=VirtualKey.Lifecycle.RETIRING, retire_at__lte=timezone.now()
    )
    users = set(due.values_list("user_id", flat=True))
    cause = Cause.clock("overlap over")
    retired = marking.mark_keys(due, cause=cause, lifecycle=VirtualKey.Lifecycle.RETIRED)
    if retired:
        # What the old key left of the budget goes to the others.
        marking.mark_keys(VirtualKey.live.filter(user_id__in=users), cause=cause)
    return len(retired)

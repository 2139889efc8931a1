"""What becomes due by the clock alone."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from llmkeys import marking, rotation, switches
from llmkeys.models import VirtualKey
from tesslate.lib.cause import Cause


def keep_time() -> None:
    """Retire replaced keys whose overlap is over, rotate old ones, lift expired switches."""
    retire_due()
    rotate_aged()
    switches.lift_expired()


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


def rotate_aged(*, limit: int = 20) -> int:
    """Rotate the keys that have reached the age the setting allows, a few at a time."""
    if settings.KEY_MAX_AGE_DAYS == 0:
        return 0
    oldest = timezone.now() - timedelta(days=settings.KEY_MAX_AGE_DAYS)
    aged = VirtualKey.objects.filter(
        lifecycle=VirtualKey.Lifecycle.ACTIVE, created_at__lte=oldest, observed__isnull=False
    ).order_by("created_at")[:limit]
    for key in aged:
        rotation.rotate_key(key=key, cause=Cause.clock("key age"))
    return len(aged)

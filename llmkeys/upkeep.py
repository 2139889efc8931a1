"""What becomes due by the clock alone."""

from datetime import timedelta

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from llmkeys import marking, rotation, switches
from llmkeys.models import KeyEvent, VirtualKey
from tesslate.lib.cause import Cause

WARN_BEFORE = timedelta(hours=24)
STILL_USED = "still in use"


def keep_time() -> None:
    """Retire replaced keys whose overlap is over, rotate old ones, lift expired switches."""
    retire_due()
    rotate_aged()
    warn_about_use()
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


def warn_about_use() -> int:
    """Tell owners whose old key is still in use a day before it stops working; how many.

    Our own chat path has moved to the new key, so somebody else uses the old one.
    """
    now = timezone.now()
    ending = list(
        VirtualKey.objects.filter(
            lifecycle=VirtualKey.Lifecycle.RETIRING,
            retire_at__lte=now + WARN_BEFORE,
            last_used_at__gt=F("replaced_by__created_at"),
        )
        .exclude(events__action=STILL_USED)
        .select_related("user")
        .distinct()
    )
    for key in ending:
        KeyEvent.objects.create(
            key=key,
            action=STILL_USED,
            outcome=KeyEvent.Outcome.NOTED,
            message=f"last used {key.last_used_at:%Y-%m-%d %H:%M} UTC",
        )
        send_mail(
            "An old key of yours is still in use",
            f"Your key ending in {key.last_four} was replaced and stops working on "
            f"{key.retire_at:%Y-%m-%d %H:%M} UTC, but it was last used on "
            f"{key.last_used_at:%Y-%m-%d %H:%M} UTC. If that was not you, write to us.",
            None,
            [key.user.email],
            fail_silently=True,
        )
    return len(ending)

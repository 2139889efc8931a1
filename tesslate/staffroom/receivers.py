"""What staff wrote down about a customer goes with the account."""

from collections.abc import Collection
from typing import Any

from django.dispatch import receiver

from accounts.signals import accounts_changed
from tesslate.staffroom.models import CustomerNote


@receiver(accounts_changed, dispatch_uid="staffroom.erase_notes")
def erase_notes(user_ids: Collection[int], **kwargs: Any) -> None:
    CustomerNote.objects.filter(user__in=user_ids, user__deleted_at__isnull=False).delete()

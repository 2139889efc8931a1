"""What this app does when people change."""

from collections.abc import Iterable
from typing import Any

from django.dispatch import receiver

from accounts.signals import accounts_changed
from plans.entitlements import refresh_entitlements
from tesslate.lib.cause import Cause


@receiver(accounts_changed, dispatch_uid="plans.refresh_entitlements")
def refresh_when_accounts_change(
    sender: Any, *, user_ids: Iterable[int], cause: Cause, **kwargs: Any
) -> None:
    refresh_entitlements(user_ids, cause=cause)

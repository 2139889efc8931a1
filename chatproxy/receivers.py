"""What the lower apps tell us: web processes forget what they remember of it."""

from typing import Any

from django.dispatch import receiver

from accounts.signals import accounts_changed
from plans.signals import entitlements_changed, plan_changed
from tesslate.lib.changes import PLANS, publish


@receiver([accounts_changed, entitlements_changed], dispatch_uid="chat_forgets_users")
def forget_users(user_ids: list[int], **kwargs: Any) -> None:
    publish(user_ids)


@receiver(plan_changed, dispatch_uid="chat_forgets_plans")
def forget_plans(**kwargs: Any) -> None:
    publish(kinds=[PLANS])

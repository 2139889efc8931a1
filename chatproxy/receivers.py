"""What the lower apps tell us: web processes forget what they remember of it, and what was kept
of a person's conversations goes with their account."""

from typing import Any

from django.dispatch import receiver

from accounts.signals import accounts_changed
from chatproxy.models import ChatContent
from plans.signals import entitlements_changed, plan_changed
from tesslate.lib.changes import PLANS, publish


@receiver([accounts_changed, entitlements_changed], dispatch_uid="chat_forgets_users")
def forget_users(user_ids: list[int], **kwargs: Any) -> None:
    publish(user_ids)


@receiver(plan_changed, dispatch_uid="chat_forgets_plans")
def forget_plans(**kwargs: Any) -> None:
    publish(kinds=[PLANS])


@receiver(accounts_changed, dispatch_uid="chat_erases_content")
def erase_content(user_ids: list[int], **kwargs: Any) -> None:
    ChatContent.objects.filter(user__in=user_ids, user__deleted_at__isnull=False).delete()

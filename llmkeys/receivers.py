"""What the lower apps' signals mean for keys. Each runs in the sender's transaction and only writes
rows, so that what it does stands or falls with the change that caused it."""

from collections.abc import Collection
from typing import Any

from django.dispatch import receiver

from accounts.models import User
from accounts.signals import accounts_changed
from llmkeys import marking, overage, provisioning, rollouts, services, spend_budgets
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, Plan
from plans.signals import entitlements_changed, plan_changed
from tesslate.lib.cause import Cause


@receiver(entitlements_changed)
def follow_entitlements(user_ids: Collection[int], cause: Cause, **kwargs: Any) -> None:
    """Users may have something else now: a first key, or the keys that they have, must follow."""
    holders = marking.mark_users(user_ids, cause=cause)
    provisioning.ensure_first_keys(set(user_ids) - holders, cause=cause)
    spend_budgets.follow_entitlements(user_ids)
    overage.follow_entitlements(user_ids)


@receiver(accounts_changed)
def follow_accounts(user_ids: Collection[int], cause: Cause, **kwargs: Any) -> None:
    """People changed: closed accounts lose their keys and what they wrote about them, the keys of
    others are looked at again."""
    closed = set(
        User.objects.filter(pk__in=user_ids, deleted_at__isnull=False).values_list("pk", flat=True)
    )
    if closed:
        spend_budgets.remove_budgets_of(closed, cause=cause)
        services.retire_all(user_ids=closed, cause=cause)
    others = set(user_ids) - closed
    marking.mark_users(others, cause=cause)
    entitled = CurrentEntitlement.objects.filter(user_id__in=others)
    provisioning.ensure_first_keys(list(entitled.values_list("pk", flat=True)), cause=cause)


@receiver(plan_changed)
def follow_plan(plan: Plan, cause: Cause, **kwargs: Any) -> None:
    """A plan was edited: what its keys share follows in two calls; the keys themselves only where
    the edit is about something that each of them carries."""
    provisioning.ensure_plans([plan])
    marking.mark_plans([plan.pk], cause=cause)
    rollouts.follow_edit(plan=plan, cause=cause)
    # Users with only a share of the plan's rates have them written into their own keys.
    marking.mark_keys(
        VirtualKey.objects.filter(
            user__current_entitlement__plan=plan,
            user__current_entitlement__limit_percent__lt=100,
            removed_at=None,
        ),
        cause=cause,
    )

"""Reads that other apps and pages share."""

from django.db.models import Prefetch, Q, QuerySet
from django.db.models.functions import Coalesce

from accounts.models import Membership, User
from plans.access import LIVE_STATUSES, MEANINGS
from plans.entitlements import refresh_entitlements
from plans.models import CurrentEntitlement, Customer, GatewayModel, Plan, Price, Subscription
from tesslate.lib.cause import Cause


def current_entitlement(user: User) -> CurrentEntitlement:
    """The user's entitlement row, made on first need."""
    rows = CurrentEntitlement.objects.select_related("plan")
    try:
        return rows.get(user=user)
    except CurrentEntitlement.DoesNotExist:
        refresh_entitlements([user.pk], cause=Cause.system("first_need"))
        return rows.get(user=user)


def plans_on_sale() -> QuerySet[Plan]:
    """The public price list, with models and the prices that can be bought."""
    return Plan.objects.filter(is_public=True, archived_at=None).prefetch_related(
        Prefetch(
            "prices",
            queryset=prices_on_sale().order_by("unit_amount"),
            to_attr="prices_on_sale",
        ),
        Prefetch(
            "gateway_models",
            queryset=GatewayModel.objects.filter(disabled_at=None),
            to_attr="available_models",
        ),
    )


def prices_on_sale() -> QuerySet[Price]:
    return Price.objects.filter(
        archived_at=None, stripe_price_id__isnull=False, plan__archived_at=None
    )


def models_of(plan: Plan) -> QuerySet[GatewayModel]:
    """The models that a plan includes and staff have not withdrawn."""
    return plan.gateway_models.filter(disabled_at=None)


def live_subscriptions(customer: Customer) -> QuerySet[Subscription]:
    """What the customer should manage rather than buy again, the highest plan first; a status we
    do not know counts, and an unmapped price by the last mapped one."""
    rank = Coalesce("price__plan__rank", "last_good_price__plan__rank")
    return (
        customer.subscriptions.exclude(status__in=set(MEANINGS) - LIVE_STATUSES)
        .select_related("price__plan", "last_good_price__plan")
        .order_by(rank.desc(nulls_last=True), "-pk")
    )


def orphaned_by(user: User) -> QuerySet[Subscription]:
    """Subscriptions that would go on charging with nobody left who can manage them, if the user
    closed the account: their own, and those of organizations that have no other member."""
    shared = Membership.objects.exclude(user=user).values("organization_id")
    alone = user.memberships.exclude(organization_id__in=shared).values("organization_id")
    return Subscription.objects.filter(
        Q(customer__user=user) | Q(customer__organization_id__in=alone),
        cancel_at=None,
        cancel_at_period_end=False,
    ).exclude(status__in=set(MEANINGS) - LIVE_STATUSES)


def owns(user: User, organization_id: int) -> bool:
    return Membership.objects.filter(
        organization_id=organization_id, user=user, role=Membership.Role.OWNER
    ).exists()

"""An organization's page: its members, its invitations, and what it pays for."""

from dataclasses import dataclass

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import Invitation, Membership, User
from accounts.selectors import members_of, membership_in, open_invitations
from plans.customers import Payer, existing_customer
from plans.models import Price, Subscription
from plans.overview import Billing, billing_of
from plans.selectors import live_subscriptions, prices_on_sale
from tesslate.lib.errors import NotFound
from tesslate.site.account import overage_cap_cents, price_of
from tesslate.site.back_from_stripe import back_from_stripe
from tesslate.site.money import format_money
from tesslate.site.pricing import CURRENCY
from tesslate.site.standing import Standing, organization_standing
from tesslate.site.views import not_found


@dataclass(frozen=True, slots=True)
class Member:
    membership: Membership
    has_seat: bool


@dataclass(frozen=True, slots=True)
class OrganizationPage:
    """What one member sees; invitations and billing are for owners."""

    membership: Membership
    members: list[Member]
    subscription: Subscription | None
    standing: Standing
    invitations: list[Invitation]
    billing: Billing | None
    # Prices that may be bought for the members, with the words for them.
    offers: list[tuple[str, str]]
    # US cents a period that may go beyond the plan; None where that cannot be had.
    overage_cap_cents: int | None

    @property
    def is_owner(self) -> bool:
        return self.membership.role == Membership.Role.OWNER

    @property
    def seats(self) -> int:
        return 0 if self.subscription is None else self.subscription.quantity

    @property
    def seats_taken(self) -> int:
        return sum(member.has_seat for member in self.members)

    @property
    def price(self) -> str:
        return "" if self.subscription is None else price_of(self.subscription)

    @property
    def plan_name(self) -> str:
        if self.subscription is None:
            return "No plan"
        price = self.subscription.price or self.subscription.last_good_price
        return "No plan" if price is None else price.plan.name


def organization_page(organization_id: int, user: User) -> OrganizationPage:
    """Raises NotFound for whoever is not a member."""
    membership = membership_in(organization_id, user)
    organization = membership.organization
    is_owner = membership.role == Membership.Role.OWNER
    customer = existing_customer(Payer(organization_id=organization.pk))
    subscription = None if customer is None else live_subscriptions(customer).first()
    now = timezone.now()
    return OrganizationPage(
        membership=membership,
        members=_seated(list(members_of(organization)), subscription),
        subscription=subscription,
        standing=organization_standing(subscription, now),
        invitations=list(open_invitations(organization)) if is_owner else [],
        billing=billing_of(user, organization_id=organization.pk) if is_owner else None,
        offers=_offers() if is_owner and subscription is None else [],
        overage_cap_cents=overage_cap_cents(customer) if is_owner else None,
    )


def _seated(memberships: list[Membership], subscription: Subscription | None) -> list[Member]:
    """Seats go by order of joining; a closed account takes none (plans.entitlements)."""
    left = 0 if subscription is None else subscription.quantity
    members = []
    for membership in memberships:
        takes_one = left > 0 and membership.user.is_active and membership.user.deleted_at is None
        left -= takes_one
        members.append(Member(membership, takes_one))
    return members


def _offers() -> list[tuple[str, str]]:
    prices = prices_on_sale().filter(plan__is_public=True, currency=CURRENCY)
    return [
        (price.stripe_price_id or "", _words(price))
        for price in prices.select_related("plan").order_by("plan__rank", "interval")
    ]


def _words(price: Price) -> str:
    amount = format_money(price.unit_amount, price.currency)
    return f"{price.plan.name}, {amount} a {price.interval} and seat"


@never_cache
@require_safe
@login_required
def organization(request: HttpRequest, organization_id: int) -> HttpResponse:
    assert isinstance(request.user, User)
    try:
        page = organization_page(organization_id, request.user)
    except NotFound:
        return not_found(request)
    config = {
        "organization": organization_id,
        "me": request.user.pk,
        **back_from_stripe(request, page.billing),
    }
    is_canceled = request.GET.get("checkout") == "canceled"
    context = {"page": page, "config": config, "canceled": is_canceled, "now": timezone.now()}
    return render(request, "site/organization.html", context)

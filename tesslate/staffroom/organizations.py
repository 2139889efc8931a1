"""Everything about one organization, read for one page."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Sum
from django.utils import timezone

from accounts.models import AuditEntry, Invitation, Membership, Organization
from accounts.selectors import open_invitations
from chatproxy.models import ChatRequest
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, Customer, PlanGrant, Subscription
from plans.selectors import live_subscriptions
from tesslate.staffroom.customers import (
    TIMELINE,
    Happening,
    KeyPanel,
    Trouble,
    audit_happenings,
    key_fields,
    stripe_happenings,
    troubles,
)
from tesslate.staffroom.links import at_stripe

MEMBERS = 50
RECENT_REQUESTS = 15
RECENTLY = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Member:
    membership: Membership
    entitlement: CurrentEntitlement | None
    key: KeyPanel | None
    requests: int
    cost: Decimal

    @property
    def has_seat(self) -> bool:
        """Whether this organization's seat is what gives them their plan."""
        return self._seat == self.membership.pk

    @property
    def is_seated_elsewhere(self) -> bool:
        return self._seat is not None and not self.has_seat

    @property
    def _seat(self) -> int | None:
        """The membership whose seat counts, in whichever organization."""
        held = self.entitlement
        if held is None or held.source != CurrentEntitlement.Source.ORGANIZATION:
            return None
        return held.source_id


@dataclass(frozen=True, slots=True)
class OrganizationPage:
    organization: Organization
    payer: Customer | None
    subscriptions: list[Subscription]
    grants: list[PlanGrant]
    # Seats of running subscriptions.
    seats: int
    member_count: int
    members: list[Member]
    invitations: list[Invitation]
    requests: list[ChatRequest]
    troubles: list[Trouble]
    timeline: list[Happening]

    @property
    def stripe_url(self) -> str:
        return at_stripe("customers", self.payer.stripe_customer_id) if self.payer else ""

    @property
    def without_seat(self) -> int:
        return max(0, self.member_count - self.seats) if self.seats else 0


def organization_page(
    organization: Organization, *, at: datetime | None = None
) -> OrganizationPage:
    """A fixed number of queries, however many members there are; the first members only."""
    since = (at or timezone.now()) - RECENTLY
    payer = Customer.objects.filter(organization=organization).first()
    memberships = list(
        organization.memberships.select_related("user").order_by("joined_at", "id")[:MEMBERS]
    )
    subscriptions = (
        list(Subscription.objects.filter(customer=payer).select_related("price__plan")[:10])
        if payer
        else []
    )
    live = list(live_subscriptions(payer)) if payer else []
    ids = [membership.user_id for membership in memberships]
    requests = ChatRequest.objects.filter(user_id__in=ids, started_at__gte=since)
    return OrganizationPage(
        organization=organization,
        payer=payer,
        subscriptions=subscriptions,
        grants=list(
            PlanGrant.objects.filter(organization=organization).select_related("plan")[:10]
        ),
        seats=sum(row.quantity for row in live),
        member_count=organization.memberships.count(),
        members=_members(memberships, since),
        invitations=list(open_invitations(organization).order_by("-id")[:20]),
        requests=list(requests.select_related("user")[:RECENT_REQUESTS]),
        troubles=troubles(ids, since),
        timeline=_timeline(organization, payer),
    )


def _members(memberships: list[Membership], since: datetime) -> list[Member]:
    ids = [membership.user_id for membership in memberships]
    entitlements = {
        row.user_id: row
        for row in CurrentEntitlement.objects.filter(user_id__in=ids).select_related("plan")
    }
    keys = {
        key.user_id: KeyPanel(key, key_fields(key))
        for key in VirtualKey.live.filter(user_id__in=ids).order_by("pk")
    }
    used: dict[int, dict[str, Any]] = {
        row["user_id"]: dict(row)
        for row in ChatRequest.objects.filter(user_id__in=ids, started_at__gte=since)
        .order_by()
        .values("user_id")
        .annotate(requests=Count("id"), cost=Sum("cost"))
    }
    nothing = {"requests": 0, "cost": None}
    return [
        Member(
            membership,
            entitlements.get(membership.user_id),
            keys.get(membership.user_id),
            used.get(membership.user_id, nothing)["requests"],
            used.get(membership.user_id, nothing)["cost"] or Decimal(0),
        )
        for membership in memberships
    ]


def _timeline(organization: Organization, payer: Customer | None) -> list[Happening]:
    entries = AuditEntry.objects.filter(organization=organization).select_related("actor")
    happenings = [*stripe_happenings(payer), *audit_happenings(entries[:TIMELINE])]
    happenings.sort(key=lambda happening: happening.at, reverse=True)
    return happenings[:TIMELINE]

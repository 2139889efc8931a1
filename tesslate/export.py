"""Everything that we keep about one person, as they may have it (GDPR, articles 15 and 20)."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Model, Q, QuerySet
from django.utils import timezone

from accounts.models import AuditEntry, User
from accounts.selectors import memberships_of
from chatproxy.models import ChatRequest
from plans.models import PlanGrant, Subscription
from plans.selectors import current_entitlement

# Newest first; who has more can page through /api/usage.
MOST_REQUESTS = 50_000


def export_of(user: User) -> dict[str, Any]:
    """JSON-serialisable by Django's encoder. Holds no secret and nobody else's data."""
    entitlement = current_entitlement(user)
    requests = ChatRequest.objects.filter(user_id=user.pk).order_by("-started_at")
    return {
        "exported_at": timezone.now(),
        "account": _row(
            user,
            "id email display_name firebase_uid date_joined last_login suspended_at "
            "suspension_reason",
        ),
        "organizations": [
            {"name": membership.organization.name, **_row(membership, "role joined_at")}
            for membership in memberships_of(user)
        ],
        "entitlement": {
            "plan": entitlement.plan.code,
            **_row(entitlement, "source period_start period_end reasons decided_at"),
        },
        "subscriptions": _rows(
            Subscription.objects.filter(customer__user=user),
            "stripe_subscription_id status stripe_price_id quantity started_at "
            "current_period_start current_period_end canceled_at ended_at",
        ),
        "grants": _rows(
            PlanGrant.objects.filter(user=user),
            "plan__code starts_at ends_at reason revoked_at",
        ),
        "api_tokens": _rows(
            user.api_tokens.all(),
            "name prefix scopes created_at expires_at revoked_at last_used_at",
        ),
        "history": _rows(
            AuditEntry.objects.filter(Q(user=user) | Q(actor=user)), "at action reason"
        ),
        "requests": _rows(
            requests,
            "id started_at model served_model outcome status prompt_tokens completion_tokens cost "
            "duration_ms",
            most=MOST_REQUESTS,
        ),
    }


def _row(row: Model, fields: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in fields.split()}


def _rows(rows: QuerySet[Any], fields: str, most: int | None = None) -> list[dict[str, Any]]:
    found: Iterable[dict[str, Any]] = rows.values(*fields.split())[:most]
    return list(found)

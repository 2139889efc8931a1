"""Everything that we keep about one person, as they may have it (GDPR, articles 15 and 20)."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Model, QuerySet
from django.utils import timezone

from accounts.models import AuditEntry, User
from accounts.selectors import memberships_of
from chatproxy.content import conversations_of
from chatproxy.models import ChatRequest
from llmkeys.models import SpendBudget, VirtualKey
from plans.models import PlanGrant, RevenueInvoice, Subscription, Throttle
from plans.selectors import current_entitlement

# Newest first; who has more can page through /api/usage.
MOST_REQUESTS = 50_000
# Characters of conversations, newest first: the file is made in memory.
MOST_CONVERSED = 50_000_000


def export_of(user: User) -> dict[str, Any]:
    """JSON-serialisable by Django's encoder. Holds no secret and nobody else's data: of the trail
    what was done to this person, not what they did to others."""
    entitlement = current_entitlement(user)
    conversations, omitted = _conversations(user)
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
        "sessions": _rows(user.sessions.all(), "agent address saved_at expire_date"),
        "keys": _rows(
            VirtualKey.objects.filter(user=user),
            "label last_four lifecycle created_at last_used_at removed_at",
        ),
        "spend_budget": _rows(
            SpendBudget.objects.filter(user=user), "amount is_hard webhook_url created_at"
        ),
        "invoices": _rows(
            RevenueInvoice.objects.filter(customer__user=user),
            "stripe_invoice_id status currency total tax paid_at",
        ),
        "throttles": _rows(
            Throttle.objects.filter(user=user),
            "percent reason evidence begun_at ends_at answer lifted_at",
        ),
        "history": _rows(AuditEntry.objects.filter(user=user), "at action reason"),
        "conversations": conversations,
        "conversations_omitted": omitted,
        "requests": _rows(
            requests,
            "id started_at model served_model outcome status prompt_tokens completion_tokens cost "
            "duration_ms",
            most=MOST_REQUESTS,
        ),
    }


def _conversations(user: User) -> tuple[list[dict[str, Any]], int]:
    """As many as the file holds, newest first, and how many it does not."""
    held: list[dict[str, Any]] = []
    size = omitted = 0
    for conversation in conversations_of(user):
        size += len(str(conversation))
        if size > MOST_CONVERSED:
            omitted += 1
        else:
            held.append(conversation)
    return held, omitted


def _row(row: Model, fields: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in fields.split()}


def _rows(rows: QuerySet[Any], fields: str, most: int | None = None) -> list[dict[str, Any]]:
    found: Iterable[dict[str, Any]] = rows.values(*fields.split())[:most]
    return list(found)

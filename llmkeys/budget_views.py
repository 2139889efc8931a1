"""A customer's own budget, and that of an organization for its owners."""

from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization, User
from llmkeys.models import SpendBudget
from llmkeys.spend_budgets import remove_budget, set_budget, standing
from plans.checkout import payer_for
from tesslate.lib.cause import Cause
from tesslate.lib.errors import NotFound
from tesslate.lib.throttling import PerUserThrottle

ORGANIZATION = OpenApiParameter("organization", OpenApiTypes.INT)


class BudgetIn(serializers.Serializer[Any]):
    amount = serializers.DecimalField(
        max_digits=10, decimal_places=2, min_value=Decimal(0), help_text="US dollars a period."
    )
    hard = serializers.BooleanField(default=False, help_text="Stop use when it is used up.")
    webhook_url = serializers.URLField(
        max_length=500, default="", allow_blank=True, help_text="https; called at 50, 80, 100 %."
    )

    def validate_webhook_url(self, url: str) -> str:
        parts = urlsplit(url)
        if url and parts.scheme != "https" and not settings.WEBHOOK_ALLOW_PRIVATE:
            raise serializers.ValidationError("Only https addresses are called.")
        try:
            is_port = parts.port != 0
        except ValueError:
            is_port = False
        if not is_port:
            raise serializers.ValidationError("Ports go from 1 to 65535.")
        return url


class BudgetOut(serializers.Serializer[Any]):
    amount = serializers.DecimalField(max_digits=12, decimal_places=2)
    hard = serializers.BooleanField()
    webhook_url = serializers.CharField()
    webhook_secret = serializers.CharField(
        allow_null=True,
        help_text="Signs the webhook (`Tesslate-Signature`). Shown once, for a new address.",
    )
    spent = serializers.DecimalField(
        max_digits=18, decimal_places=10, help_text="US dollars in this period, less credits."
    )
    percent = serializers.IntegerField()
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()


class BudgetQuery(serializers.Serializer[Any]):
    organization = serializers.IntegerField(required=False, min_value=1, max_value=2**62)


class BudgetThrottle(PerUserThrottle):
    """Setting a budget sends mail and calls an address of the caller's choosing."""

    scope = "budget"
    rate = "60/hour"


class BudgetView(APIView):
    def get_throttles(self) -> list[Any]:
        return [BudgetThrottle()] if self.request.method == "PUT" else []

    @extend_schema(
        operation_id="get_budget", tags=["budget"], parameters=[ORGANIZATION], responses=BudgetOut
    )
    def get(self, request: Request) -> Response:
        user, organization = _owner(request)
        return Response(_shown(_existing(user, organization), secret=""))

    @extend_schema(
        operation_id="set_budget",
        tags=["budget"],
        parameters=[ORGANIZATION],
        request=BudgetIn,
        responses=BudgetOut,
    )
    def put(self, request: Request) -> Response:
        user, organization = _owner(request)
        given = BudgetIn(data=request.data)
        given.is_valid(raise_exception=True)
        budget, secret = set_budget(
            user=user,
            organization=organization,
            amount=given.validated_data["amount"],
            is_hard=given.validated_data["hard"],
            webhook_url=given.validated_data["webhook_url"],
            cause=Cause.user(_caller(request).pk, "budget"),
        )
        return Response(_shown(budget, secret=secret))

    @extend_schema(
        operation_id="remove_budget",
        tags=["budget"],
        parameters=[ORGANIZATION],
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        budget = _existing(*_owner(request))
        remove_budget(budget=budget, cause=Cause.user(_caller(request).pk, "budget"))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _owner(request: Request) -> tuple[User | None, Organization | None]:
    """The caller, or the organization that they name and own."""
    query = BudgetQuery(data=request.query_params)
    query.is_valid(raise_exception=True)
    payer = payer_for(_caller(request), query.validated_data.get("organization"))
    if payer.organization_id is None:
        return _caller(request), None
    return None, Organization.objects.get(pk=payer.organization_id)


def _existing(user: User | None, organization: Organization | None) -> SpendBudget:
    found = SpendBudget.objects.filter(user=user, organization=organization).first()
    if found is None:
        raise NotFound
    return found


def _shown(budget: SpendBudget, *, secret: str) -> Any:
    found = standing(budget, at=timezone.now())
    return BudgetOut(
        {
            "amount": budget.amount,
            "hard": budget.is_hard,
            "webhook_url": budget.webhook_url,
            "webhook_secret": secret or None,
            "spent": found.spent,
            "percent": found.percent,
            "period_start": found.window.start,
            "period_end": found.window.end,
        }
    ).data


def _caller(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user

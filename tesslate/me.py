"""/api/me: everything about one's own access in one answer; to take it along, and to leave."""

from typing import Any

from django.contrib.auth import logout
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.callers import caller
from accounts.models import User
from accounts.selectors import memberships_of
from accounts.services import delete_account
from accounts.views.organizations import MembershipSerializer
from accounts.views.session import UserSerializer
from chatproxy.selectors import usage_in_period
from llmkeys.selectors import key_state
from plans.errors import SubscriptionRunning
from plans.models import CurrentEntitlement, Plan
from plans.selectors import current_entitlement, orphaned_by
from tesslate.export import export_of
from tesslate.lib.cause import Cause
from tesslate.lib.errors import InvalidRequest
from tesslate.lib.throttling import PerUserThrottle


class EntitledPlanSerializer(serializers.ModelSerializer[Plan]):
    class Meta:
        model = Plan
        fields = ["code", "name", "rpm", "tpm", "max_parallel_requests", "budget_cents"]


class EntitlementSerializer(serializers.ModelSerializer[CurrentEntitlement]):
    plan = EntitledPlanSerializer()
    reasons = serializers.ListField(
        child=serializers.DictField(),
        help_text="The chain of facts that led here, in order; `code` is stable.",
    )

    class Meta:
        model = CurrentEntitlement
        fields = [
            "plan",
            "source",
            "limit_percent",
            "period_start",
            "period_end",
            "grace_ends_at",
            "changes_at",
            "reasons",
        ]


class KeyStateSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(
        choices=["ready", "updating", "pending", "blocked", "none"],
        help_text="`updating`: it works, and a change is on its way to the gateway.",
    )
    last_four = serializers.CharField(allow_null=True)
    in_step = serializers.BooleanField()


class PeriodUsageSerializer(serializers.Serializer[Any]):
    """From the start of the entitlement's period until now."""

    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost = serializers.DecimalField(max_digits=20, decimal_places=10, help_text="US dollars.")


class MeView(APIView):
    class Me(serializers.Serializer[Any]):
        user = UserSerializer()
        suspended_at = serializers.DateTimeField(allow_null=True)
        organizations = MembershipSerializer(many=True)
        entitlement = EntitlementSerializer()
        key = KeyStateSerializer()
        usage = PeriodUsageSerializer()

    class Farewell(serializers.Serializer[Any]):
        confirm = serializers.CharField(max_length=254, help_text="One's own e-mail address.")

    @extend_schema(operation_id="me", responses=Me)
    def get(self, request: Request) -> Response:
        return Response(self.Me(about(caller(request))).data)

    @extend_schema(operation_id="me_delete", request=Farewell, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Close one's account for good. Subscriptions are canceled first, and owners on
        whom others depend hand over (409)."""
        data = self.Farewell(data=request.data)
        data.is_valid(raise_exception=True)
        user = caller(request)
        if data.validated_data["confirm"].strip().lower() != user.email:
            raise InvalidRequest("Repeat your e-mail address to confirm.", param="confirm")
        if orphaned_by(user).exists():
            raise SubscriptionRunning(details={"portal": "/api/billing/portal"})
        delete_account(user_id=user.pk, cause=Cause.user(user.pk))
        logout(request._request)
        return Response(status=204)


class ExportThrottle(PerUserThrottle):
    scope = "export"
    rate = "10/hour"


class ExportView(APIView):
    throttle_classes = [ExportThrottle]

    @extend_schema(operation_id="me_export", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """All that we keep about the caller, as a file."""
        name = f"tesslate-{timezone.now():%Y-%m-%d}.json"
        return Response(
            export_of(caller(request)),
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def about(user: User) -> dict[str, Any]:
    entitlement = current_entitlement(user)
    return {
        "user": user,
        "suspended_at": user.suspended_at,
        "organizations": memberships_of(user),
        "entitlement": entitlement,
        "key": key_state(user),
        "usage": usage_in_period(user, entitlement.period_start, entitlement.period_end),
    }

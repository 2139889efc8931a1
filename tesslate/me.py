"""GET /api/me: everything that a caller may know about their own access, in one answer."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Membership, User
from accounts.views.session import UserSerializer
from chatproxy.selectors import usage_in_period
from llmkeys.selectors import key_state
from plans.models import CurrentEntitlement, Plan
from plans.selectors import current_entitlement


class MembershipSerializer(serializers.ModelSerializer[Membership]):
    id = serializers.IntegerField(source="organization_id")
    name = serializers.CharField(source="organization.name")

    class Meta:
        model = Membership
        fields = ["id", "name", "role"]


class PlanSerializer(serializers.ModelSerializer[Plan]):
    class Meta:
        model = Plan
        fields = ["code", "name", "rpm", "tpm", "max_parallel_requests", "budget_cents"]


class EntitlementSerializer(serializers.ModelSerializer[CurrentEntitlement]):
    plan = PlanSerializer()
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


class KeySerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(
        choices=["ready", "updating", "pending", "blocked", "none"],
        help_text="`updating`: it works, and a change is on its way to the gateway.",
    )
    last_four = serializers.CharField(allow_null=True)
    in_step = serializers.BooleanField()


class UsageSerializer(serializers.Serializer[Any]):
    """From the start of the entitlement's period until now."""

    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost = serializers.DecimalField(max_digits=20, decimal_places=10, help_text="US dollars.")


class MeView(APIView):
    class Output(serializers.Serializer[Any]):
        user = UserSerializer()
        suspended_at = serializers.DateTimeField(allow_null=True)
        organizations = MembershipSerializer(many=True)
        entitlement = EntitlementSerializer()
        key = KeySerializer()
        usage = UsageSerializer()

    @extend_schema(operation_id="me", responses=Output)
    def get(self, request: Request) -> Response:
        assert isinstance(request.user, User)
        return Response(self.Output(about(request.user)).data)


def about(user: User) -> dict[str, Any]:
    entitlement = current_entitlement(user)
    return {
        "user": user,
        "suspended_at": user.suspended_at,
        "organizations": user.memberships.select_related("organization").order_by("id"),
        "entitlement": entitlement,
        "key": key_state(user),
        "usage": usage_in_period(user, entitlement.period_start, entitlement.period_end),
    }

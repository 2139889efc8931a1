"""How far beyond their plan a payer lets themselves be billed."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from plans.checkout import payer_for
from plans.customers import existing_customer
from plans.models import Customer, OverageWindow
from plans.overage import cap_in_force, offers_overage, set_cap, units_due
from plans.views import BillingThrottle

HIGHEST_CAP = 10_000_000


class OverageIn(serializers.Serializer[Any]):
    cap_cents = serializers.IntegerField(
        min_value=0, max_value=HIGHEST_CAP, help_text="US cents a period; 0 switches it off."
    )
    organization = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=2**62
    )


class OverageWindowOut(serializers.Serializer[OverageWindow]):
    """One user's period."""

    user = serializers.EmailField(source="user.email")
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    included_cents = serializers.IntegerField()
    used = serializers.DecimalField(
        source="used_in_period",
        max_digits=18,
        decimal_places=10,
        help_text="US dollars at the gateway, on every plan of the period.",
    )
    charged_cents = serializers.SerializerMethodField(help_text="US cents to be billed so far.")

    def get_charged_cents(self, window: OverageWindow) -> int:
        return max(units_due(window), window.units_reported)


class OverageOut(serializers.Serializer[Any]):
    offered = serializers.BooleanField(help_text="Whether the present subscription can have it.")
    cap_cents = serializers.IntegerField()
    windows = OverageWindowOut(many=True, help_text="The latest periods, newest first.")


SHOWN = 50


class OverageView(APIView):
    throttle_classes = (BillingThrottle,)

    @extend_schema(
        operation_id="get_overage",
        summary="Usage beyond the plan: cap, and what was used",
        tags=["billing"],
        parameters=[OpenApiParameter("organization", OpenApiTypes.INT)],
        responses=OverageOut,
    )
    def get(self, request: Request) -> Response:
        query = OverageQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        payer = payer_for(_caller(request), query.validated_data.get("organization"))
        return Response(_answer(existing_customer(payer)))

    @extend_schema(
        operation_id="set_overage",
        summary="Set the cap on usage beyond the plan",
        description="Answers 409 `overage_not_offered` where the subscription cannot have it.",
        tags=["billing"],
        request=OverageIn,
        responses=OverageOut,
    )
    def put(self, request: Request) -> Response:
        given = OverageIn(data=request.data)
        given.is_valid(raise_exception=True)
        customer = set_cap(
            user=_caller(request),
            cap_cents=given.validated_data["cap_cents"],
            organization_id=given.validated_data.get("organization"),
        )
        return Response(_answer(customer))


class OverageQuery(serializers.Serializer[Any]):
    organization = serializers.IntegerField(required=False, min_value=1, max_value=2**62)


def _answer(customer: Customer | None) -> Any:
    windows = OverageWindow.objects.none()
    if customer is not None:
        windows = customer.overage_windows.select_related("user").prefetch_related("earlier")
    return OverageOut(
        {
            "offered": offers_overage(customer),
            "cap_cents": cap_in_force(customer),
            "windows": windows[:SHOWN],
        }
    ).data


def _caller(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user

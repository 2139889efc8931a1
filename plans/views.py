"""The billing API: price list, models, own subscription, and the ways to Stripe's pages."""

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from plans.checkout import open_checkout, open_portal
from plans.overview import billing_of, models_for
from plans.selectors import plans_on_sale
from plans.serializers import (
    AddressOut,
    BillingOut,
    BillingQuery,
    CheckoutIn,
    ModelListOut,
    PlanListOut,
    PortalIn,
)
from tesslate.lib.throttling import PerUserThrottle


class BillingThrottle(PerUserThrottle):
    """Each of these calls makes several at Stripe."""

    scope = "billing"
    rate = "20/min"


def _caller(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user


class PlansView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="list_plans",
        summary="The price list",
        tags=["billing"],
        responses=PlanListOut,
        auth=[],
    )
    def get(self, request: Request) -> Response:
        return Response(PlanListOut({"plans": plans_on_sale()}).data)


class ModelsView(APIView):
    @extend_schema(
        operation_id="list_models",
        summary="Models, and which of them the caller may use now",
        tags=["billing"],
        responses=ModelListOut,
    )
    def get(self, request: Request) -> Response:
        return Response(ModelListOut({"models": models_for(_caller(request))}).data)


class SubscriptionView(APIView):
    @extend_schema(
        operation_id="get_subscription",
        summary="The caller's subscription, or that of an organization they own",
        tags=["billing"],
        parameters=[BillingQuery],
        responses=BillingOut,
    )
    def get(self, request: Request) -> Response:
        query = BillingQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        billing = billing_of(
            _caller(request),
            organization_id=query.validated_data.get("organization"),
            session_id=query.validated_data.get("session_id"),
        )
        return Response(BillingOut(billing).data)


class CheckoutView(APIView):
    throttle_classes = (BillingThrottle,)

    @extend_schema(
        operation_id="open_checkout",
        summary="Buy a plan",
        description="Answers 409 `already_subscribed` for a caller who has a subscription.",
        tags=["billing"],
        request=CheckoutIn,
        responses=AddressOut,
    )
    def post(self, request: Request) -> Response:
        given = CheckoutIn(data=request.data)
        given.is_valid(raise_exception=True)
        url = open_checkout(
            user=_caller(request),
            price_id=given.validated_data["price"],
            organization_id=given.validated_data.get("organization"),
            quantity=given.validated_data["quantity"],
        )
        return Response({"url": url})


class PortalView(APIView):
    throttle_classes = (BillingThrottle,)

    @extend_schema(
        operation_id="open_portal",
        summary="Manage a subscription at Stripe",
        tags=["billing"],
        request=PortalIn,
        responses=AddressOut,
    )
    def post(self, request: Request) -> Response:
        given = PortalIn(data=request.data)
        given.is_valid(raise_exception=True)
        url = open_portal(
            user=_caller(request), organization_id=given.validated_data.get("organization")
        )
        return Response({"url": url})

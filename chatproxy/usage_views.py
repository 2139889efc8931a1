"""Usage and receipts, from our own ledger."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import (
    ApiTokenAuthentication,
    CookieAuthentication,
    FirebaseAuthentication,
    needs_scope,
)
from accounts.callers import caller
from accounts.models import ApiToken, User
from accounts.staff import is_staff_with
from chatproxy.models import ChatRequest
from chatproxy.selectors import GROUPS, Totals, find_request, usage_by, usage_in_period
from plans.selectors import current_entitlement
from tesslate.lib.errors import InvalidRequest, NotFound

LONGEST_PERIOD = timedelta(days=400)


class TotalsSerializer(serializers.Serializer[Totals]):
    requests = serializers.IntegerField(help_text="Answered, in full or in part.")
    refused = serializers.IntegerField(help_text="Refused or failed: these used nothing.")
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost = serializers.DecimalField(max_digits=18, decimal_places=10, help_text="US dollars.")
    unpriced = serializers.IntegerField(help_text="Requests without a price, not in `cost`.")


class GroupSerializer(TotalsSerializer):
    """Bears the member that the answer is grouped by."""

    model = serializers.CharField(required=False)
    day = serializers.DateField(required=False)
    plan = serializers.CharField(required=False)
    outcome = serializers.CharField(required=False)


USAGE_QUERY = [
    OpenApiParameter("from", OpenApiTypes.DATETIME, description="Default: start of the period."),
    OpenApiParameter("to", OpenApiTypes.DATETIME, description="Not included. Default: now."),
    OpenApiParameter("group_by", OpenApiTypes.STR, enum=GROUPS, default="model"),
    OpenApiParameter("tz", OpenApiTypes.STR, description="Time zone of days.", default="UTC"),
]
USAGE_ANSWER = inline_serializer(
    "Usage",
    {
        "from": serializers.DateTimeField(),
        "to": serializers.DateTimeField(),
        "group_by": serializers.ChoiceField(choices=GROUPS),
        "data": GroupSerializer(many=True),
        "total": TotalsSerializer(),
    },
)


class _ForUsage(APIView):
    authentication_classes = (
        ApiTokenAuthentication,
        FirebaseAuthentication,
        CookieAuthentication,
    )
    permission_classes = (IsAuthenticated, needs_scope(ApiToken.Scope.USAGE_READ))


class UsageView(_ForUsage):
    @extend_schema(operation_id="usage", parameters=USAGE_QUERY, responses=USAGE_ANSWER)
    def get(self, request: Request) -> Response:
        return Response(usage_of(caller(request), request))


class UserUsageView(_ForUsage):
    """Any user's usage, for that user and for staff; for everybody else there is no such user."""

    @extend_schema(operation_id="usage_of_user", parameters=USAGE_QUERY, responses=USAGE_ANSWER)
    def get(self, request: Request, user_id: int) -> Response:
        me = caller(request)
        if me.pk != user_id and not is_staff_with(request, "chatproxy.view_chatrequest"):
            raise NotFound
        user = User.objects.filter(pk=user_id).first()
        if user is None:
            raise NotFound
        return Response(usage_of(user, request))


class ReceiptView(_ForUsage):
    """What one request came to, and why: also for a client that left before its end."""

    class Output(serializers.ModelSerializer[ChatRequest]):
        id = serializers.CharField(source="public_id")
        total_tokens = serializers.IntegerField()
        plan = serializers.CharField(source="plan_code")
        estimated = serializers.BooleanField(source="is_estimated")
        stream = serializers.BooleanField(source="is_stream")
        decision = serializers.SerializerMethodField()

        class Meta:
            model = ChatRequest
            fields = [
                "id",
                "started_at",
                "plan",
                "model",
                "served_model",
                "stream",
                "outcome",
                "status",
                "error_code",
                "decision",
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "cost",
                "estimated",
                "ttfb_ms",
                "duration_ms",
            ]

        def get_decision(self, row: ChatRequest) -> dict[str, Any] | None:
            """Without what the gateway said: that is for staff."""
            decision = row.decision or {}
            return {k: v for k, v in decision.items() if k != "gateway"} or None

    @extend_schema(operation_id="receipt", responses=Output)
    def get(self, request: Request, request_id: str) -> Response:
        found = find_request(request_id)
        if found is None or found.user_id != caller(request).pk:
            raise NotFound
        return Response(self.Output(found).data)


def usage_of(user: User, request: Request) -> dict[str, Any]:
    query = request.query_params
    start = _moment(query.get("from"), "from") or current_entitlement(user).period_start
    end = _moment(query.get("to"), "to") or timezone.now()
    if end - start > LONGEST_PERIOD:
        raise InvalidRequest(f"At most {LONGEST_PERIOD.days} days.", param="from")
    group = query.get("group_by", "model")
    if group not in GROUPS:
        raise InvalidRequest(f"One of {', '.join(GROUPS)}.", param="group_by")
    rows = usage_by(user, start, end, group=group, zone=_zone(query.get("tz", "UTC")))
    return {
        "from": start.isoformat(),
        "to": end.isoformat(),
        "group_by": group,
        "data": [{group: label, **_plain(totals)} for label, totals in rows],
        "total": _plain(usage_in_period(user, start, end)),
    }


def _plain(totals: Totals) -> dict[str, Any]:
    return {**asdict(totals), "cost": str(totals.cost)}


def _moment(value: str | None, param: str) -> datetime | None:
    """A moment, or midnight (UTC) of a date."""
    if not value:
        return None
    try:
        # "+" of a zone offset arrives as a space where the caller did not encode it.
        moment = parse_datetime(value.replace(" ", "+"))
        if moment is None and (date := parse_date(value)) is not None:
            moment = datetime(date.year, date.month, date.day)
        if moment is not None and timezone.is_aware(moment):
            # PostgreSQL takes fewer offsets than ISO 8601 has.
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise InvalidRequest("Not a date or moment (ISO 8601).", param=param)
    return moment.replace(tzinfo=UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest("Not a time zone.", param="tz") from None

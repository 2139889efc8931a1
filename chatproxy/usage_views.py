"""Usage, from our own ledger or from the gateway's books, and receipts."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
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
from accounts.models import ApiToken, Membership, Organization, User
from accounts.staff import is_staff_with
from chatproxy.models import ChatRequest
from chatproxy.selectors import GROUPS, Totals, find_request, usage_by, usage_in_period
from chatproxy.usage_csv import UsageCsv
from llmkeys import usage_sums
from llmkeys.models import UsageHour
from plans.selectors import current_entitlement
from tesslate.lib.errors import InvalidRequest, NotFound

LONGEST_PERIOD = timedelta(days=400)
# The ledger is there at once; the gateway's books lag by a minute and are what money goes by.
SOURCES = ("ledger", "gateway")
BOOKED = ("model", "day", "hour", "plan", "provider")
OF_ORGANIZATION = (*BOOKED, "user")


class TotalsSerializer(serializers.Serializer[Totals]):
    requests = serializers.IntegerField(help_text="Answered, in full or in part.")
    refused = serializers.IntegerField(help_text="Refused or failed: these used nothing.")
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost = serializers.DecimalField(max_digits=18, decimal_places=10, help_text="US dollars.")
    unpriced = serializers.IntegerField(help_text="Requests without a price, not in `cost`.")
    credited = serializers.DecimalField(
        max_digits=18,
        decimal_places=10,
        help_text="US dollars that were given back. Only with `source=gateway`.",
    )


class GroupSerializer(TotalsSerializer):
    """Bears the member that the answer is grouped by."""

    model = serializers.CharField(required=False)
    day = serializers.DateField(required=False)
    hour = serializers.DateTimeField(required=False)
    plan = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    outcome = serializers.CharField(required=False)
    user = serializers.EmailField(required=False)


def _query(groups: Sequence[str]) -> list[OpenApiParameter]:
    return [
        OpenApiParameter(
            "from", OpenApiTypes.DATETIME, description="Default: start of the period."
        ),
        OpenApiParameter("to", OpenApiTypes.DATETIME, description="Not included. Default: now."),
        OpenApiParameter("group_by", OpenApiTypes.STR, enum=groups, default="model"),
        OpenApiParameter("tz", OpenApiTypes.STR, description="Time zone of days.", default="UTC"),
    ]


ALL_GROUPS = tuple(dict.fromkeys((*GROUPS, *BOOKED)))
USAGE_QUERY = [
    *_query(ALL_GROUPS),
    OpenApiParameter(
        "source",
        OpenApiTypes.STR,
        enum=SOURCES,
        default="ledger",
        description="`ledger`: our own record, at once; groups by model, day, plan, outcome. "
        "`gateway`: what the gateway asks for, in whole hours, a minute or two later; groups by "
        "model, day, hour, plan, provider.",
    ),
]
USAGE_ANSWER = inline_serializer(
    "Usage",
    {
        "from": serializers.DateTimeField(),
        "to": serializers.DateTimeField(),
        "source": serializers.ChoiceField(choices=SOURCES),
        "group_by": serializers.ChoiceField(choices=(*ALL_GROUPS, "user")),
        "data": GroupSerializer(many=True),
        "total": TotalsSerializer(),
        "read_until": serializers.DateTimeField(
            allow_null=True, help_text="Until when the gateway's log is known."
        ),
    },
)
ANSWERS = {(200, "application/json"): USAGE_ANSWER, (200, "text/csv"): OpenApiTypes.STR}


class _ForUsage(APIView):
    """JSON, or CSV for whoever sends ``Accept: text/csv``."""

    authentication_classes = (
        ApiTokenAuthentication,
        FirebaseAuthentication,
        CookieAuthentication,
    )
    permission_classes = (IsAuthenticated, needs_scope(ApiToken.Scope.USAGE_READ))
    renderer_classes = (JSONRenderer, UsageCsv)


class UsageView(_ForUsage):
    @extend_schema(operation_id="usage", parameters=USAGE_QUERY, responses=ANSWERS)
    def get(self, request: Request) -> Response:
        return Response(usage_of(caller(request), request))


class UserUsageView(_ForUsage):
    """Any user's usage, for that user and for staff; for everybody else there is no such user."""

    @extend_schema(operation_id="usage_of_user", parameters=USAGE_QUERY, responses=ANSWERS)
    def get(self, request: Request, user_id: int) -> Response:
        me = caller(request)
        if me.pk != user_id and not is_staff_with(request, "chatproxy.view_chatrequest"):
            raise NotFound
        user = User.objects.filter(pk=user_id).first()
        if user is None:
            raise NotFound
        return Response(usage_of(user, request))


class OrganizationUsageView(_ForUsage):
    """What an organization's seats used, for its owners and for staff; for everybody else there is
    no such organization."""

    @extend_schema(
        operation_id="usage_of_organization",
        parameters=_query(OF_ORGANIZATION),
        responses=ANSWERS,
    )
    def get(self, request: Request, organization_id: int) -> Response:
        me = caller(request)
        found = Organization.objects.filter(pk=organization_id).first()
        owns = Membership.objects.filter(
            organization_id=organization_id, user=me, role=Membership.Role.OWNER
        )
        if found is None or not (
            owns.exists() or is_staff_with(request, "chatproxy.view_chatrequest")
        ):
            raise NotFound
        start, end = _stretch(request, me)
        hours = usage_sums.hours_of_organization(found, start, end)
        return Response(_booked(hours, request, start, end, OF_ORGANIZATION))


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
    start, end = _stretch(request, user)
    query = request.query_params
    source = query.get("source", "ledger")
    if source not in SOURCES:
        raise InvalidRequest(f"One of {', '.join(SOURCES)}.", param="source")
    if source == "gateway":
        return _booked(usage_sums.hours_of_user(user, start, end), request, start, end, BOOKED)
    group = _group(request, GROUPS)
    rows = usage_by(user, start, end, group=group, zone=_zone(query.get("tz", "UTC")))
    total = usage_in_period(user, start, end)
    return _answer(source, group, start, end, rows, total)


def _booked(
    hours: QuerySet[UsageHour],
    request: Request,
    start: datetime,
    end: datetime,
    groups: Sequence[str],
) -> dict[str, Any]:
    group = _group(request, groups)
    zone = _zone(request.query_params.get("tz", "UTC"))
    rows = [
        (label, _as_totals(sums)) for label, sums in usage_sums.grouped(hours, group, zone=zone)
    ]
    total = _as_totals(usage_sums.total(hours))
    return _answer("gateway", group, start, end, rows, total)


def _answer(
    source: str,
    group: str,
    start: datetime,
    end: datetime,
    rows: Sequence[tuple[str, Totals]],
    total: Totals,
) -> dict[str, Any]:
    read_until = usage_sums.read_until()
    return {
        "from": start.isoformat(),
        "to": end.isoformat(),
        "source": source,
        "group_by": group,
        "data": [{group: label, **_plain(totals)} for label, totals in rows],
        "total": _plain(total),
        "read_until": read_until and read_until.isoformat(),
    }


def _as_totals(sums: usage_sums.UsageSums) -> Totals:
    return Totals(
        requests=sums.requests,
        refused=sums.failed,
        prompt_tokens=sums.prompt_tokens,
        completion_tokens=sums.completion_tokens,
        total_tokens=sums.prompt_tokens + sums.completion_tokens,
        cost=sums.cost,
        unpriced=sums.unpriced,
        credited=sums.credited,
    )


def _stretch(request: Request, whose: User) -> tuple[datetime, datetime]:
    """As asked for, or from the beginning of this user's billing period."""
    query = request.query_params
    start = _moment(query.get("from"), "from") or current_entitlement(whose).period_start
    end = _moment(query.get("to"), "to") or timezone.now()
    if end - start > LONGEST_PERIOD:
        raise InvalidRequest(f"At most {LONGEST_PERIOD.days} days.", param="from")
    return start, end


def _group(request: Request, groups: Sequence[str]) -> str:
    group: str = request.query_params.get("group_by", "model")
    if group not in groups:
        raise InvalidRequest(f"One of {', '.join(groups)}.", param="group_by")
    return group


def _plain(totals: Totals) -> dict[str, Any]:
    return {**asdict(totals), "cost": str(totals.cost), "credited": str(totals.credited)}


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

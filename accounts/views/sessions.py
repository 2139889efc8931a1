"""/api/sessions: where one is signed in with a browser."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.callers import caller
from accounts.models import BrowserSession
from accounts.sessions import end_other_sessions, end_session, sessions_of
from tesslate.lib.cause import Cause
from tesslate.lib.errors import NotFound


class BrowserSessionSerializer(serializers.ModelSerializer[BrowserSession]):
    id = serializers.CharField(source="public_id")
    is_current = serializers.SerializerMethodField()

    class Meta:
        model = BrowserSession
        fields = ["id", "agent", "address", "saved_at", "expire_date", "is_current"]

    def get_is_current(self, row: BrowserSession) -> bool:
        return row.session_key == _key(self.context["request"])


def _key(request: Request) -> str | None:
    key: str | None = request._request.session.session_key
    return key


class SessionsView(APIView):
    class Sessions(serializers.Serializer[Any]):
        sessions = BrowserSessionSerializer(many=True)

    @extend_schema(operation_id="sessions_list", responses=Sessions)
    def get(self, request: Request) -> Response:
        found = {"sessions": sessions_of(caller(request))}
        return Response(self.Sessions(found, context={"request": request}).data)

    @extend_schema(operation_id="sessions_end_others", request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Sign out everywhere else."""
        user = caller(request)
        end_other_sessions(user=user, but=_key(request), cause=Cause.user(user.pk))
        return Response(status=204)


class BrowserSessionView(APIView):
    @extend_schema(operation_id="sessions_end", request=None, responses={204: None})
    def delete(self, request: Request, session_id: str) -> Response:
        """Sign out there."""
        user = caller(request)
        if not end_session(user=user, session_id=session_id, cause=Cause.user(user.pk)):
            raise NotFound
        return Response(status=204)

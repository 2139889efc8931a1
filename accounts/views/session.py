"""The browser's session."""

import time
from typing import Any

from django.contrib.auth import login, logout
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from accounts.authentication import CookieAuthentication
from accounts.callers import caller
from accounts.errors import StaffSignInElsewhere, TokenTooOld
from accounts.firebase import verify_id_token
from accounts.models import User
from accounts.signin import user_for_identity
from tesslate.lib.throttling import FailOpenThrottle

# A session lasts for weeks: only a sign-in of just now may start one, not a token found later.
RECENT_SIGN_IN_SECONDS = 5 * 60


class SignInThrottle(FailOpenThrottle):
    scope = "sign-in"
    rate = "30/min"


class UserSerializer(serializers.ModelSerializer[User]):
    name = serializers.CharField(source="display_name")

    class Meta:
        model = User
        fields = ["id", "email", "name"]


class SessionView(APIView):
    """Exchange an ID token for a session cookie, see whose it is, sign out."""

    authentication_classes = [CookieAuthentication]

    class SignIn(serializers.Serializer[Any]):
        id_token = serializers.CharField(max_length=8192, trim_whitespace=True)

    class Session(serializers.Serializer[Any]):
        user = UserSerializer()
        csrf_token = serializers.CharField(
            help_text="For the X-CSRFToken header; a front end on another site cannot read cookies."
        )

    def get_authenticators(self) -> list[BaseAuthentication]:
        # Signing in must work while an old cookie lies about, without its CSRF token.
        is_sign_in = self.request is not None and self.request.method == "POST"
        return [] if is_sign_in else [CookieAuthentication()]

    def get_permissions(self) -> list[BasePermission]:
        return [IsAuthenticated()] if self.request.method == "GET" else [AllowAny()]

    def get_throttles(self) -> list[BaseThrottle]:
        return [SignInThrottle()] if self.request.method == "POST" else []

    @extend_schema(operation_id="session_read", responses=Session)
    def get(self, request: Request) -> Response:
        return self._answer(request, caller(request))

    @extend_schema(operation_id="session_create", auth=[], request=SignIn, responses=Session)
    def post(self, request: Request) -> Response:
        data = self.SignIn(data=request.data)
        data.is_valid(raise_exception=True)
        identity = verify_id_token(data.validated_data["id_token"])
        if time.time() - identity.authenticated_at > RECENT_SIGN_IN_SECONDS:
            raise TokenTooOld
        user = user_for_identity(identity=identity)
        if user.is_staff:
            # The admin asks for more than a Firebase password.
            raise StaffSignInElsewhere
        login(request._request, user, backend="django.contrib.auth.backends.ModelBackend")
        return self._answer(request, user)

    @extend_schema(operation_id="session_delete", request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        logout(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _answer(self, request: Request, user: User) -> Response:
        output = self.Session({"user": user, "csrf_token": get_token(request._request)})
        return Response(output.data)

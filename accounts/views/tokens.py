"""/api/tokens: one's own personal API tokens. A token cannot make tokens."""

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.callers import caller
from accounts.models import ApiToken
from accounts.tokens import create_token, live_tokens, rename_token, revoke_token
from tesslate.lib.cause import Cause
from tesslate.lib.errors import NotFound


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    class Meta:
        model = ApiToken
        fields = ["id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at"]
        read_only_fields = ["id", "prefix", "scopes", "created_at", "expires_at", "last_used_at"]


class NewTokenSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=ApiToken.Scope.choices),
        allow_empty=False,
        max_length=10,
    )
    expires_in_days = serializers.IntegerField(
        min_value=1, max_value=366, allow_null=True, default=None, help_text="Empty: never."
    )


class MadeTokenSerializer(TokenSerializer):
    token = serializers.CharField(help_text="Shown this once.")

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]


class TokensView(APIView):
    class Tokens(serializers.Serializer[Any]):
        tokens = TokenSerializer(many=True)

    @extend_schema(operation_id="tokens_list", responses=Tokens)
    def get(self, request: Request) -> Response:
        return Response(self.Tokens({"tokens": live_tokens(caller(request))}).data)

    @extend_schema(
        operation_id="tokens_create",
        request=NewTokenSerializer,
        responses={201: MadeTokenSerializer},
    )
    def post(self, request: Request) -> Response:
        data = NewTokenSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        user = caller(request)
        days = data.validated_data["expires_in_days"]
        token, value = create_token(
            user=user,
            name=data.validated_data["name"],
            scopes=data.validated_data["scopes"],
            expires_at=None if days is None else timezone.now() + timedelta(days=days),
            cause=Cause.user(user.pk),
        )
        made = {**TokenSerializer(token).data, "token": value}
        return Response(made, status=status.HTTP_201_CREATED)


class TokenView(APIView):
    @extend_schema(operation_id="tokens_read", responses=TokenSerializer)
    def get(self, request: Request, token_id: int) -> Response:
        return Response(TokenSerializer(self._token(request, token_id)).data)

    @extend_schema(operation_id="tokens_rename", request=TokenSerializer, responses=TokenSerializer)
    def patch(self, request: Request, token_id: int) -> Response:
        data = TokenSerializer(self._token(request, token_id), data=request.data)
        data.is_valid(raise_exception=True)
        user = caller(request)
        name = data.validated_data["name"]
        if not rename_token(user=user, token_id=token_id, name=name, cause=Cause.user(user.pk)):
            raise NotFound
        return self.get(request, token_id)

    @extend_schema(operation_id="tokens_revoke", responses={204: None})
    def delete(self, request: Request, token_id: int) -> Response:
        token = self._token(request, token_id)
        revoke_token(token_id=token.pk, cause=Cause.user(caller(request).pk))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _token(self, request: Request, token_id: int) -> ApiToken:
        token = live_tokens(caller(request)).filter(pk=token_id).first()
        if token is None:
            raise NotFound
        return token

"""The chat path as DRF views: schema, authentication, permissions and errors as everywhere else.

Under ASGI the same paths are answered ahead of Django by chatproxy.asgi; both use the steps of
chatproxy.runtime and chatproxy.relay, so this is the interface and that the transport.
"""

import json
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
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
from accounts.models import ApiToken
from chatproxy.bridge import Bridge, bridge
from chatproxy.exchange import new_exchange
from chatproxy.gate import Call, read_front_end, read_openai
from chatproxy.idempotency import Kept
from chatproxy.identity import Bearer
from chatproxy.live import Live
from chatproxy.models import ChatRequest
from chatproxy.runtime import Runtime
from tesslate.lib.errors import ApiError, NotFound, TooLarge


class MessageSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(
        choices=["system", "developer", "user", "assistant", "tool", "function"]
    )
    content = serializers.JSONField(
        allow_null=True, help_text="Text, or a list of parts (text, images)."
    )


class CommonRequest(serializers.Serializer[Any]):
    """Further members of OpenAI's request (tools, response_format, seed, …) pass through."""

    messages = MessageSerializer(many=True, allow_empty=False)
    temperature = serializers.FloatField(required=False, min_value=0, max_value=2)
    max_tokens = serializers.IntegerField(required=False, min_value=1)
    stream = serializers.BooleanField(required=False)


class ChatRequestSerializer(CommonRequest):
    selectedModelId = serializers.CharField()  # noqa: N815 - the front end's name


class CompletionsRequestSerializer(CommonRequest):
    model = serializers.CharField()


class EventStreamRenderer(BaseRenderer):
    """So that a client which accepts event streams alone is not turned away."""

    media_type = "text/event-stream"
    format = "sse"
    charset = "utf-8"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return json.dumps(data).encode()


class RawParser(BaseParser):
    """The gate reads the body itself, whatever the client calls it."""

    media_type = "*/*"

    def parse(self, stream: Any, *args: Any, **kwargs: Any) -> Any:
        return None


ANSWERS = {
    (200, "text/event-stream"): OpenApiTypes.STR,
    (200, "application/json"): OpenApiTypes.OBJECT,
    402: OpenApiResponse(OpenApiTypes.OBJECT, "Budget used up (budget_exceeded)"),
    403: OpenApiResponse(OpenApiTypes.OBJECT, "Model not in plan, account suspended"),
    409: OpenApiResponse(OpenApiTypes.OBJECT, "No key yet, or request in progress"),
    429: OpenApiResponse(OpenApiTypes.OBJECT, "A limit of the plan, with Retry-After"),
}


class _ForChat(APIView):
    authentication_classes = (
        ApiTokenAuthentication,
        FirebaseAuthentication,
        CookieAuthentication,
    )
    permission_classes = (IsAuthenticated, needs_scope(ApiToken.Scope.CHAT))


class _ChatEntrance(_ForChat):
    renderer_classes = (JSONRenderer, EventStreamRenderer)
    parser_classes = (RawParser,)
    client: ChatRequest.Client
    read: Callable[[bytes], Call]

    def handle_exception(self, exc: Exception) -> Response:
        """An error is JSON, whatever kind of answer the client hoped for."""
        response = super().handle_exception(exc)
        response.content_type = JSONRenderer.media_type
        return response

    def answer(self, request: Request) -> HttpResponseBase:
        body = request._request.body
        if len(body) > settings.CHAT_MAX_BODY_BYTES:
            raise TooLarge
        here = bridge()
        api_token_id = request.auth.pk if isinstance(request.auth, ApiToken) else None
        bearer = Bearer(caller(request).pk, float("inf"), api_token_id)
        key = request.headers.get("Idempotency-Key")
        begun = here.run(_begin(here.runtime, type(self), bearer, body, key))
        if isinstance(begun, Kept):
            response = _whole(begun.body, is_stream=begun.is_stream)
            response["Idempotent-Replayed"] = "true"
            response["X-Request-Id"] = begun.request_id
            return response
        live, whole = begun
        if whole is not None:
            response = _whole(whole)
        else:
            response = _streaming(here, live, is_async=isinstance(request._request, ASGIRequest))
        response["X-Request-Id"] = live.exchange.public_id
        return response


class ChatView(_ChatEntrance):
    client = ChatRequest.Client.CHAT
    read = staticmethod(read_front_end)

    @extend_schema(operation_id="chat", request=ChatRequestSerializer, responses=ANSWERS)
    def post(self, request: Request) -> HttpResponseBase:
        """Chat: an event stream of OpenAI chunks, a final `event: usage`, then `[DONE]`."""
        return self.answer(request)


class ChatCompletionsView(_ChatEntrance):
    client = ChatRequest.Client.OPENAI
    read = staticmethod(read_openai)

    @extend_schema(
        operation_id="chat_completions", request=CompletionsRequestSerializer, responses=ANSWERS
    )
    def post(self, request: Request) -> HttpResponseBase:
        """OpenAI's chat completions: use `/api/proxy/v1` as base URL of any OpenAI client."""
        return self.answer(request)


MODEL_FIELDS: dict[str, Any] = {
    "id": serializers.CharField(),
    "object": serializers.CharField(),
    "created": serializers.IntegerField(),
    "owned_by": serializers.CharField(),
}


class ModelsView(_ForChat):
    @extend_schema(
        operation_id="chat_models",
        responses=inline_serializer(
            "ModelList",
            {
                "object": serializers.CharField(),
                "data": inline_serializer("Model", MODEL_FIELDS, many=True),
            },
        ),
    )
    def get(self, request: Request) -> Response:
        """The models that the caller's plan includes now, as OpenAI lists them."""
        return Response({"object": "list", "data": _models(request)})


class ModelView(_ForChat):
    @extend_schema(operation_id="chat_model", responses=inline_serializer("OneModel", MODEL_FIELDS))
    def get(self, request: Request, model_id: str) -> Response:
        for model in _models(request):
            if model["id"] == model_id:
                return Response(model)
        raise NotFound


def _models(request: Request) -> list[dict[str, Any]]:
    here = bridge()
    return here.run(here.runtime.models_of(caller(request).pk))


async def _begin(
    runtime: Runtime, entrance: type[_ChatEntrance], bearer: Bearer, body: bytes, key: str | None
) -> tuple[Live, bytes | None] | Kept:
    """Up to the gateway's answer: a live stream, or a whole answer. Raises ApiError."""
    exchange = new_exchange(entrance.client)
    try:
        await runtime.identify(exchange, bearer)
        begun = await runtime.begin(exchange, entrance.read, body, key)
    except ApiError as error:
        runtime.refuse(exchange, error)
        raise
    if isinstance(begun, Kept):
        return begun
    live, payload = begun
    try:
        await runtime.relay.ask(live, payload)
        return live, None if exchange.is_stream else await runtime.relay.whole(live)
    except ApiError as error:
        runtime.relay.refuse(live, error)
        raise


def _whole(body: bytes, *, is_stream: bool = False) -> HttpResponseBase:
    kind = "text/event-stream; charset=utf-8" if is_stream else "application/json"
    return HttpResponse(body, content_type=kind, headers={"Cache-Control": "no-store"})


def _streaming(here: Bridge, live: Live, *, is_async: bool) -> StreamingHttpResponse:
    chunks = here.runtime.relay.stream(live)
    response = StreamingHttpResponse(
        here.aiterate(chunks) if is_async else here.iterate(chunks),
        content_type="text/event-stream; charset=utf-8",
    )
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response

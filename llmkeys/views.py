"""Keys over HTTP: a user's own, and staff's hands on anybody's. No answer holds a key's value."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.staff import require_staff
from llmkeys import limits, rotation, services
from llmkeys.explain import explain_access
from llmkeys.models import VirtualKey
from llmkeys.people import find_user
from llmkeys.selectors import own_keys, shown_state
from tesslate.lib.cause import Cause
from tesslate.lib.errors import NotFound


class KeySerializer(serializers.ModelSerializer[VirtualKey]):
    """A key as its owner may see it: the last four characters and how it is doing."""

    state = serializers.SerializerMethodField()

    class Meta:
        model = VirtualKey
        fields = ["id", "label", "last_four", "state", "created_at", "last_used_at", "retire_at"]

    def get_state(self, key: VirtualKey) -> str:
        return shown_state(key)


def _caller(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user


class KeysView(APIView):
    @extend_schema(responses=KeySerializer(many=True), summary="Own keys, masked")
    def get(self, request: Request) -> Response:
        return Response(KeySerializer(own_keys(_caller(request)), many=True).data)


class RotateRequest(serializers.Serializer[Any]):
    key = serializers.IntegerField(required=False, help_text="Which key; the first by default.")


class RotateView(APIView):
    @extend_schema(
        request=RotateRequest,
        responses={202: KeySerializer},
        summary="Rotate an own key; the old one works for the overlap",
    )
    def post(self, request: Request) -> Response:
        asked = RotateRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        new = rotation.rotate_own_key(user=_caller(request), key_id=asked.validated_data.get("key"))
        return Response(KeySerializer(new).data, status=status.HTTP_202_ACCEPTED)


# Acts that change nothing.
LOOKS = {"show", "explain"}


class StaffActRequest(serializers.Serializer[Any]):
    action = serializers.ChoiceField(
        choices=[
            "show",
            "explain",
            "create",
            "rotate",
            "undo_rotation",
            "revoke",
            "block",
            "unblock",
            "resync",
            "reset_limits",
            "retire",
        ]
    )
    user = serializers.CharField(help_text="Id or e-mail address.")
    key = serializers.IntegerField(required=False, help_text="Which of the user's keys.")
    key_label = serializers.CharField(required=False, max_length=100)
    model = serializers.CharField(
        required=False, max_length=200, help_text="The model to explain access to."
    )
    reason = serializers.CharField(required=False, max_length=500, default="")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["action"] == "explain" and "model" not in attrs:
            raise serializers.ValidationError({"model": "Say which model."})
        return attrs


class StaffKeySerializer(KeySerializer):
    class Meta(KeySerializer.Meta):
        fields = [
            *KeySerializer.Meta.fields,
            "alias",
            "key_hash",
            "lifecycle",
            "generation",
            "observed_generation",
            "blocked_at",
            "blocked_reason",
            "last_error",
            "parked_at",
            "synced_at",
            "enforced_at",
        ]


class LinkSerializer(serializers.Serializer[Any]):
    fact = serializers.CharField()
    holds = serializers.BooleanField(
        allow_null=True, help_text="False stands in the way, null merely informs."
    )


class StaffAnswer(serializers.Serializer[Any]):
    keys = StaffKeySerializer(many=True)
    limits = serializers.JSONField(help_text="As the plan, as desired, as observed.")
    access = LinkSerializer(
        many=True, required=False, help_text="The whole chain of reasons; only for explain."
    )


class StaffKeysView(APIView):
    """Everything support does about somebody's keys. Each act is on the audit trail.

    To see takes the permission to view virtual keys, to act the one to change them.
    """

    @extend_schema(
        request=StaffActRequest, responses=StaffAnswer, summary="Act on a user's keys (staff)"
    )
    def post(self, request: Request) -> Response:
        require_staff(request, "llmkeys.view_virtualkey")
        asked = StaffActRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        args = asked.validated_data
        if args["action"] not in LOOKS:
            require_staff(request, "llmkeys.change_virtualkey")
        user = find_user(args["user"])
        if user is None:
            raise NotFound("There is no such user.", param="user")
        act(user=user, cause=Cause.staff(_caller(request).pk, "api"), **args_of(args))
        keys = list(VirtualKey.objects.filter(user=user).order_by("-pk")[:20])
        answer: dict[str, Any] = {
            "keys": StaffKeySerializer(keys, many=True).data,
            "limits": limits.side_by_side(user),
        }
        if args["action"] == "explain":
            answer["access"] = LinkSerializer(explain_access(user, args["model"]), many=True).data
        return Response(answer)


def args_of(args: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": args["action"],
        "key_id": args.get("key"),
        "label": args.get("key_label"),
        "reason": args["reason"],
    }


def act(
    *, user: User, action: str, key_id: int | None, label: str | None, reason: str, cause: Cause
) -> None:
    """Carry out one of staff's acts. Raises NotFound where it needs a key and there is none."""
    match action:
        case "create":
            services.create_key(user=user, label=label or "default", cause=cause)
            return
        case "resync":
            services.heal_key(user_id=user.pk, cause=cause)
            return
        case "reset_limits":
            services.reset_spend(user=user, reason=reason, cause=cause)
            return
        case "show" | "explain":
            return
    key = _the_key(user, key_id)
    match action:
        case "rotate":
            rotation.rotate_key(key=key, cause=cause, reason=reason)
        case "undo_rotation":
            rotation.undo_rotation(key=key, cause=cause)
        case "revoke":
            rotation.revoke_key(key=key, cause=cause, reason=reason)
        case "block":
            services.block_key(key=key, reason=reason, cause=cause)
        case "unblock":
            services.unblock_key(key=key, cause=cause)
        case "retire":
            services.retire_key(key=key, cause=cause, reason=reason)


def _the_key(user: User, key_id: int | None) -> VirtualKey:
    keys = VirtualKey.live.filter(user=user).select_related("user").order_by("-pk")
    key = (keys if key_id is None else keys.filter(pk=key_id)).first()
    if key is None:
        raise NotFound("The user has no such key.", param="key")
    return key

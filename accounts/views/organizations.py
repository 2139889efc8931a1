"""/api/organizations and below, /api/invitations/accept."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import invitations, organizations
from accounts.callers import caller
from accounts.models import Invitation, Membership, Organization
from accounts.selectors import (
    is_expired,
    members_of,
    membership_in,
    memberships_of,
    open_invitations,
    owned_organization,
)
from tesslate.lib.cause import Cause
from tesslate.lib.errors import PermissionDenied
from tesslate.lib.throttling import PerUserThrottle


class MembershipSerializer(serializers.ModelSerializer[Membership]):
    """An organization as one of its members sees it."""

    id = serializers.IntegerField(source="organization_id", read_only=True)
    name = serializers.CharField(source="organization.name", max_length=200)

    class Meta:
        model = Membership
        fields = ["id", "name", "role", "joined_at"]
        read_only_fields = ["role", "joined_at"]


class MemberSerializer(serializers.ModelSerializer[Membership]):
    """A member as the others see them."""

    email = serializers.EmailField(source="user.email", read_only=True)
    name = serializers.CharField(source="user.display_name", read_only=True)

    class Meta:
        model = Membership
        fields = ["user_id", "email", "name", "role", "joined_at"]
        read_only_fields = ["user_id", "joined_at"]
        extra_kwargs = {"role": {"required": True}}


class InvitationSerializer(serializers.ModelSerializer[Invitation]):
    is_sent = serializers.SerializerMethodField(
        help_text="False: the mail server refused. Invite once more."
    )
    is_expired = serializers.SerializerMethodField()

    class Meta:
        model = Invitation
        fields = ["id", "email", "role", "created_at", "expires_at", "is_sent", "is_expired"]
        read_only_fields = ["created_at", "expires_at"]

    def get_is_sent(self, invitation: Invitation) -> bool:
        return invitation.sent_at is not None

    def get_is_expired(self, invitation: Invitation) -> bool:
        return is_expired(invitation)


class InviteThrottle(PerUserThrottle):
    """Mail in our name to addresses of the caller's choosing."""

    scope = "invite"
    rate = "60/hour"


class AcceptThrottle(PerUserThrottle):
    scope = "accept-invitation"
    rate = "30/min"


class OrganizationsView(APIView):
    class Organizations(serializers.Serializer[Any]):
        organizations = MembershipSerializer(many=True)

    @extend_schema(operation_id="organizations_list", responses=Organizations)
    def get(self, request: Request) -> Response:
        return Response(self.Organizations({"organizations": memberships_of(caller(request))}).data)

    @extend_schema(
        operation_id="organizations_create",
        request=MembershipSerializer,
        responses={201: MembershipSerializer},
    )
    def post(self, request: Request) -> Response:
        user = caller(request)
        organization = organizations.create_organization(owner=user, name=_name(request))
        membership = membership_in(organization.pk, user)
        return Response(MembershipSerializer(membership).data, status=status.HTTP_201_CREATED)


class OrganizationView(APIView):
    @extend_schema(operation_id="organizations_read", responses=MembershipSerializer)
    def get(self, request: Request, organization_id: int) -> Response:
        membership = membership_in(organization_id, caller(request))
        return Response(MembershipSerializer(membership).data)

    @extend_schema(
        operation_id="organizations_rename",
        request=MembershipSerializer,
        responses=MembershipSerializer,
    )
    def patch(self, request: Request, organization_id: int) -> Response:
        user = caller(request)
        organizations.rename_organization(
            organization=owned_organization(organization_id, user),
            name=_name(request),
            cause=Cause.user(user.pk),
        )
        return Response(MembershipSerializer(membership_in(organization_id, user)).data)


class MembersView(APIView):
    class Members(serializers.Serializer[Any]):
        members = MemberSerializer(many=True)

    @extend_schema(operation_id="members_list", responses=Members)
    def get(self, request: Request, organization_id: int) -> Response:
        organization = membership_in(organization_id, caller(request)).organization
        return Response(self.Members({"members": members_of(organization)}).data)


class MemberView(APIView):
    @extend_schema(
        operation_id="members_change_role", request=MemberSerializer, responses=MemberSerializer
    )
    def patch(self, request: Request, organization_id: int, user_id: int) -> Response:
        user = caller(request)
        organization = owned_organization(organization_id, user)
        data = MemberSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        membership = organizations.change_role(
            organization=organization,
            user_id=user_id,
            role=data.validated_data["role"],
            cause=Cause.user(user.pk),
        )
        return Response(MemberSerializer(membership).data)

    @extend_schema(operation_id="members_remove", responses={204: None})
    def delete(self, request: Request, organization_id: int, user_id: int) -> Response:
        """Remove a member (owners), or leave (oneself)."""
        user = caller(request)
        membership = membership_in(organization_id, user)
        if user_id != user.pk and membership.role != Membership.Role.OWNER:
            raise PermissionDenied("Only an owner may do this.")
        organizations.remove_member(
            organization=membership.organization, user_id=user_id, cause=Cause.user(user.pk)
        )
        return Response(status=status.HTTP_204_NO_CONTENT)


class TransferView(APIView):
    class Transfer(serializers.Serializer[Any]):
        user_id = serializers.IntegerField()

    @extend_schema(
        operation_id="organizations_transfer", request=Transfer, responses=MembershipSerializer
    )
    def post(self, request: Request, organization_id: int) -> Response:
        user = caller(request)
        organization = owned_organization(organization_id, user)
        data = self.Transfer(data=request.data)
        data.is_valid(raise_exception=True)
        organizations.transfer_ownership(
            organization=organization, owner=user, to_user_id=data.validated_data["user_id"]
        )
        return Response(MembershipSerializer(membership_in(organization_id, user)).data)


class InvitationsView(APIView):
    class Invitations(serializers.Serializer[Any]):
        invitations = InvitationSerializer(many=True)

    def get_throttles(self) -> list[Any]:
        return [InviteThrottle()] if self.request.method == "POST" else []

    @extend_schema(operation_id="invitations_list", responses=Invitations)
    def get(self, request: Request, organization_id: int) -> Response:
        organization = owned_organization(organization_id, caller(request))
        return Response(self.Invitations({"invitations": open_invitations(organization)}).data)

    @extend_schema(
        operation_id="invitations_create",
        request=InvitationSerializer,
        responses={201: InvitationSerializer},
    )
    def post(self, request: Request, organization_id: int) -> Response:
        """Invite an address, or once more: a link sent earlier stops working."""
        user = caller(request)
        organization = owned_organization(organization_id, user)
        data = InvitationSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        invitation = invitations.invite(
            organization=organization,
            email=data.validated_data["email"],
            role=data.validated_data.get("role", Membership.Role.MEMBER),
            inviter=user,
        )
        return Response(InvitationSerializer(invitation).data, status=status.HTTP_201_CREATED)


class InvitationView(APIView):
    @extend_schema(operation_id="invitations_withdraw", responses={204: None})
    def delete(self, request: Request, organization_id: int, invitation_id: int) -> Response:
        user = caller(request)
        invitations.withdraw(
            organization=owned_organization(organization_id, user),
            invitation_id=invitation_id,
            cause=Cause.user(user.pk),
        )
        return Response(status=status.HTTP_204_NO_CONTENT)


class AcceptView(APIView):
    throttle_classes = [AcceptThrottle]

    class Acceptance(serializers.Serializer[Any]):
        token = serializers.CharField(max_length=200)

    @extend_schema(
        operation_id="invitations_accept", request=Acceptance, responses=MembershipSerializer
    )
    def post(self, request: Request) -> Response:
        data = self.Acceptance(data=request.data)
        data.is_valid(raise_exception=True)
        membership = invitations.accept(token=data.validated_data["token"], user=caller(request))
        return Response(MembershipSerializer(membership).data)


def _name(request: Request) -> str:
    """The organization's name out of the body. Raises a validation error."""

    class NameSerializer(serializers.ModelSerializer[Organization]):
        class Meta:
            model = Organization
            fields = ["name"]

    data = NameSerializer(data=request.data)
    data.is_valid(raise_exception=True)
    name: str = data.validated_data["name"]
    return name

from django.urls import path

from accounts.views import organizations, sessions, tokens
from accounts.views.session import SessionView

ORGANIZATION = "api/organizations/<int:organization_id>"

urlpatterns = [
    path("api/auth/session", SessionView.as_view(), name="session"),
    path("api/sessions", sessions.SessionsView.as_view(), name="sessions"),
    path(
        "api/sessions/<str:session_id>",
        sessions.BrowserSessionView.as_view(),
        name="browser-session",
    ),
    path("api/tokens", tokens.TokensView.as_view(), name="tokens"),
    path("api/tokens/<int:token_id>", tokens.TokenView.as_view(), name="token"),
    path("api/organizations", organizations.OrganizationsView.as_view(), name="organizations"),
    path(ORGANIZATION, organizations.OrganizationView.as_view(), name="organization"),
    path(f"{ORGANIZATION}/members", organizations.MembersView.as_view(), name="members"),
    path(
        f"{ORGANIZATION}/members/<int:user_id>", organizations.MemberView.as_view(), name="member"
    ),
    path(f"{ORGANIZATION}/transfer", organizations.TransferView.as_view(), name="transfer"),
    path(
        f"{ORGANIZATION}/invitations", organizations.InvitationsView.as_view(), name="invitations"
    ),
    path(
        f"{ORGANIZATION}/invitations/<int:invitation_id>",
        organizations.InvitationView.as_view(),
        name="invitation",
    ),
    path("api/invitations/accept", organizations.AcceptView.as_view(), name="accept-invitation"),
]

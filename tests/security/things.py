"""What Alice has, under the names that the API's paths use for it."""

import re
from dataclasses import dataclass
from typing import Any

from accounts import invitations
from accounts.models import BrowserSession, Membership, User
from accounts.tokens import create_token
from tesslate.lib.cause import Cause
from tests.factories import MembershipFactory, OrganizationFactory, UserFactory
from tests.site.ledger import chat_request

ORGANIZATION = "/api/organizations/{organization_id}"
# These run on an event loop of their own, which sees committed rows only.
CHAT_PATHS = "/api/proxy/"


@dataclass(frozen=True)
class Things:
    """Ids for the names in paths, and a body for each path that is good enough."""

    ids: dict[str, str]
    bodies: dict[str, Any]

    def parameters(self, template: str) -> dict[str, str]:
        # Below an organization a path names Carol, a member; elsewhere a user is Alice.
        user = self.ids["member"] if "/members/" in template else self.ids["alice"]
        names = re.findall(r"{(\w+)}", template)
        return {name: {**self.ids, "user_id": user}[name] for name in names}

    def path(self, template: str) -> str:
        return template.format(**self.parameters(template))


def things_of(alice: User, *, member: User) -> Things:
    """Alice's organization, in which ``member`` and Carol are members, and one of everything."""
    carol = UserFactory.create(email="carol@example.com")
    organization = OrganizationFactory.create()
    MembershipFactory.create(organization=organization, user=alice, role=Membership.Role.OWNER)
    for each in (member, carol):
        MembershipFactory.create(organization=organization, user=each)
    invitation = invitations.invite(
        organization=organization, email="dave@example.com", role="member", inviter=alice
    )
    token, _ = create_token(
        user=alice,
        name="laptop",
        scopes=["chat"],
        expires_at=None,
        cause=Cause.system("test"),
    )
    ids = {
        "organization_id": organization.pk,
        "invitation_id": invitation.pk,
        "token_id": token.pk,
        "session_id": BrowserSession.objects.filter(user=alice).latest("saved_at").public_id,
        "request_id": chat_request(alice).public_id,
        "model_id": "no-such-model",
        "alice": alice.pk,
        "member": carol.pk,
    }
    bodies = {
        "/admin/keys": {"action": "show", "user": alice.email},
        ORGANIZATION: {"name": "Renamed"},
        f"{ORGANIZATION}/invitations": {"email": "erin@example.com"},
        ORGANIZATION + "/members/{user_id}": {"role": "owner"},
        f"{ORGANIZATION}/transfer": {"user_id": member.pk},
        "/api/tokens/{token_id}": {"name": "renamed"},
    }
    return Things({name: str(value) for name, value in ids.items()}, bodies)

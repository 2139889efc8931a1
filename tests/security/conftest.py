"""Alice's things, and everybody who may come near them."""

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from accounts.models import User
from chatproxy.bridge import close_bridge
from tests.factories import UserFactory
from tests.security.things import Things, things_of

ROLES = ("anonymous", "stranger", "member", "owner", "unprivileged staff", "support")


@pytest.fixture
def clients(user: User, stranger: User) -> dict[str, Client]:
    """Everybody with their session. Alice is the owner; Bob is a member."""
    bob = UserFactory.create(email="bob@example.com")
    nobody = UserFactory.create(email="temp@example.com", is_staff=True)
    support = UserFactory.create(email="help@example.com", is_staff=True)
    support.groups.add(Group.objects.get(name="support"))
    people = dict(zip(ROLES[1:], (stranger, bob, user, nobody, support), strict=True))
    signed_in = {role: Client() for role in people}
    for role, person in people.items():
        signed_in[role].force_login(person)
    return {"anonymous": Client(), **signed_in}


@pytest.fixture
def things(user: User, clients: dict[str, Client]) -> Things:
    return things_of(user, member=User.objects.get(email="bob@example.com"))


@pytest.fixture
def colleague(db) -> Callable[[str], Client]:
    """A signed-in member of staff with one role."""

    def make(role: str) -> Client:
        user = UserFactory.create(email=f"{role}@example.com", is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def chat_ends() -> Iterator[None]:
    close_bridge()
    yield
    close_bridge()

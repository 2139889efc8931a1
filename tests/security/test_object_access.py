"""Whose things may be touched by whom: every operation of the API's document, every role.

The things are Alice's, who owns an organization in which Bob is a member. An operation that the
table does not know fails the test: whoever adds a route says who may use it.
"""

import json
from collections.abc import Iterable, Iterator

import pytest
from django.db import transaction
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from tests.security.conftest import ROLES
from tests.security.things import CHAT_PATHS, ORGANIZATION, Things

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan", "empty_cache")]

OK = 0  # Let in: whatever the answer then is, it is not about rights.
Rule = dict[str, int]


def rule(anonymous: int, stranger: int, member: int, owner: int, staff: int, support: int) -> Rule:
    return dict(zip(ROLES, (anonymous, stranger, member, owner, staff, support), strict=True))


EVERYBODY = rule(OK, OK, OK, OK, OK, OK)
# Touches nothing but what is the caller's own.
SIGNED_IN = rule(401, OK, OK, OK, OK, OK)
# Names a thing of Alice's: for everybody else there is no such thing.
ALICES = rule(401, 404, 404, OK, 404, 404)
MEMBERS = rule(401, 404, OK, OK, 404, 404)
OWNERS = rule(401, 404, 403, OK, 404, 404)
OWNERS_AND_STAFF = rule(401, 404, 404, OK, 404, OK)
HER_USAGE = rule(401, 404, 404, OK, 404, OK)
STAFF = rule(401, 403, 403, 403, 403, OK)

ACCESS: dict[tuple[str, str], Rule] = {
    ("POST", "/admin/keys"): STAFF,
    ("GET", "/api/auth/session"): SIGNED_IN,
    ("POST", "/api/auth/session"): EVERYBODY,
    ("DELETE", "/api/auth/session"): EVERYBODY,
    ("POST", "/api/billing/checkout"): SIGNED_IN,
    ("GET", "/api/billing/overage"): SIGNED_IN,
    ("PUT", "/api/billing/overage"): SIGNED_IN,
    ("POST", "/api/billing/portal"): SIGNED_IN,
    ("GET", "/api/billing/subscription"): SIGNED_IN,
    # The caller's own, and nobody has set one.
    ("GET", "/api/budget"): rule(401, 404, 404, 404, 404, 404),
    ("PUT", "/api/budget"): SIGNED_IN,
    ("DELETE", "/api/budget"): rule(401, 404, 404, 404, 404, 404),
    ("POST", "/api/invitations/accept"): SIGNED_IN,
    ("GET", "/api/keys"): SIGNED_IN,
    ("POST", "/api/keys/rotate"): SIGNED_IN,
    ("GET", "/api/me"): SIGNED_IN,
    ("DELETE", "/api/me"): SIGNED_IN,
    ("GET", "/api/me/export"): SIGNED_IN,
    ("GET", "/api/models"): SIGNED_IN,
    ("GET", "/api/organizations"): SIGNED_IN,
    ("POST", "/api/organizations"): SIGNED_IN,
    ("GET", ORGANIZATION): MEMBERS,
    ("PATCH", ORGANIZATION): OWNERS,
    ("GET", f"{ORGANIZATION}/invitations"): OWNERS,
    ("POST", f"{ORGANIZATION}/invitations"): OWNERS,
    ("DELETE", ORGANIZATION + "/invitations/{invitation_id}"): OWNERS,
    ("GET", f"{ORGANIZATION}/members"): MEMBERS,
    ("PATCH", ORGANIZATION + "/members/{user_id}"): OWNERS,
    ("DELETE", ORGANIZATION + "/members/{user_id}"): OWNERS,
    ("POST", f"{ORGANIZATION}/transfer"): OWNERS,
    ("GET", f"{ORGANIZATION}/usage"): OWNERS_AND_STAFF,
    ("GET", "/api/plans"): EVERYBODY,
    ("POST", "/api/proxy/chat"): SIGNED_IN,
    ("POST", "/api/proxy/v1/chat/completions"): SIGNED_IN,
    ("GET", "/api/proxy/v1/models"): SIGNED_IN,
    # A model's name is nobody's secret, but only models of one's plan are found.
    ("GET", "/api/proxy/v1/models/{model_id}"): rule(401, 404, 404, 404, 404, 404),
    ("GET", "/api/sessions"): SIGNED_IN,
    ("DELETE", "/api/sessions"): SIGNED_IN,
    ("DELETE", "/api/sessions/{session_id}"): ALICES,
    ("GET", "/api/tokens"): SIGNED_IN,
    ("POST", "/api/tokens"): SIGNED_IN,
    ("GET", "/api/tokens/{token_id}"): ALICES,
    ("PATCH", "/api/tokens/{token_id}"): ALICES,
    ("DELETE", "/api/tokens/{token_id}"): ALICES,
    ("GET", "/api/usage"): SIGNED_IN,
    ("GET", "/api/usage/requests/{request_id}"): ALICES,
    ("GET", "/usage/{user_id}"): HER_USAGE,
}
CHAT = {operation for operation in ACCESS if operation[1].startswith(CHAT_PATHS)}


def operations() -> Iterator[tuple[str, str]]:
    for path, methods in SchemaGenerator().get_schema(request=None, public=True)["paths"].items():
        for method in methods:
            yield method.upper(), path


def test_the_table_knows_every_operation():
    assert set(operations()) == set(ACCESS)


def named(operations: Iterable[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("method", "path"), sorted(operations), ids=lambda word: word.strip("/").replace("/", "-")
    )


@named(set(ACCESS) - CHAT)
def test_operation_lets_in_whom_it_should(
    method: str, path: str, things: Things, clients: dict[str, Client]
):
    def ask(client: Client) -> int:
        with transaction.atomic():
            status = outcome(client, method, path, things)
            transaction.set_rollback(True)
        return status

    assert {role: ask(client) for role, client in clients.items()} == ACCESS[method, path]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("chat_ends")
@named(CHAT)
def test_chat_lets_in_whom_it_should(
    method: str, path: str, things: Things, clients: dict[str, Client]
):
    answers = {role: outcome(client, method, path, things) for role, client in clients.items()}

    assert answers == ACCESS[method, path]


def outcome(client: Client, method: str, path: str, things: Things) -> int:
    """The status if it is about rights, OK otherwise."""
    body = json.dumps(things.bodies.get(path, {}))
    answer = client.generic(method, things.path(path), body, content_type="application/json")
    assert answer.status_code < 500 or answer.status_code == 503, answer.content
    return answer.status_code if answer.status_code in {401, 403, 404} else OK

"""The API against its own document: what it allows is answered as it says, and what it forbids is
refused in the one error shape. Nothing is answered with a crash.

Each operation gets EFFORT requests of either kind.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.models import User
from tests.effort import EFFORT
from tests.security.things import CHAT_PATHS, Things

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan", "empty_cache")]

if TYPE_CHECKING:
    # Imported where it is used: it costs every test process 0.4 s.
    from schemathesis import Case

# Errors are about a neighbour that is down in these tests, not about the request.
NEIGHBOUR_IS_DOWN = {502, 503}


METHODS = ("get", "put", "post", "patch", "delete")


@cache
def document() -> dict[str, Any]:
    """As it is served: plain JSON."""
    generated = SchemaGenerator().get_schema(request=None, public=True)
    plain: dict[str, Any] = json.loads(json.dumps(generated, cls=DjangoJSONEncoder))
    return plain


def labels() -> Iterator[str]:
    for path, item in document()["paths"].items():
        yield from (f"{method.upper()} {path}" for method in METHODS if method in item)


CHAT = sorted(label for label in labels() if label.split()[1].startswith(CHAT_PATHS))
OTHERS = sorted(set(labels()) - set(CHAT))


@cache
def operations() -> dict[str, Any]:
    from schemathesis import openapi
    from schemathesis.core.result import Ok

    found = openapi.from_dict(document()).get_all_operations()
    return {one.ok().label: one.ok() for one in found if isinstance(one, Ok)}


@pytest.fixture
def client(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.mark.parametrize("label", OTHERS)
def test_operation_keeps_to_its_document(label: str, client: Client, things: Things):
    def send(case: "Case[Any]") -> httpx.Response:
        with transaction.atomic():
            response = ask(client, case)
            transaction.set_rollback(True)
        return response

    fuzz(label, send, things)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("chat_ends")
@pytest.mark.parametrize("label", CHAT)
def test_chat_keeps_to_its_document(label: str, client: Client, things: Things):
    fuzz(label, lambda case: ask(client, case), things)


def fuzz(label: str, send: Any, things: Things) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    operation = operations()[label]
    modes = [GenerationMode.POSITIVE]
    if len(operation.body) or any(True for _ in operation.iter_parameters()):
        modes.append(GenerationMode.NEGATIVE)
    conformance = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]

    for mode in modes:

        @settings(
            max_examples=EFFORT,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), own=st.booleans())
        def run(case: "Case[Any]", own: bool) -> None:
            if own and case.path_parameters:
                case.path_parameters = things.parameters(operation.path)
            response = send(case)
            if response.status_code in NEIGHBOUR_IS_DOWN:
                assert response.json()["error"]["code"]
                return
            case.validate_response(response, checks=conformance)

        run()


def ask(client: Client, case: "Case[Any]") -> httpx.Response:
    """Send a case through Django's own client; its answer in a form that the checks read."""
    prepared = httpx.Request(
        case.method,
        "http://testserver" + case.formatted_path,
        params={k: v for k, v in (case.query or {}).items() if v is not None},
    )
    body = case.body if isinstance(case.body, bytes) else _json(case.body)
    answer: Any = client.generic(
        case.method, prepared.url.raw_path.decode(), body, content_type="application/json"
    )
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    response = httpx.Response(
        answer.status_code, headers=dict(answer.items()), content=content, request=prepared
    )
    response.elapsed = timedelta(0)
    return response


def _json(body: Any) -> bytes:
    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except TypeError:
        # Nothing was generated: the operation takes no body, or the case leaves it out.
        return b""

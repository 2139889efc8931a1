"""The OpenAPI document and its page."""

import pytest
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

pytestmark = pytest.mark.django_db

PUBLIC_SURFACE = {
    "/api/auth/session",
    "/api/me",
    "/api/plans",
    "/api/models",
    "/api/billing/subscription",
    "/api/billing/checkout",
    "/api/billing/portal",
    "/api/keys",
    "/api/keys/rotate",
    "/api/proxy/chat",
    "/api/proxy/v1/chat/completions",
    "/api/proxy/v1/models",
    "/api/usage",
    "/usage/{user_id}",
    "/admin/keys",
    "/api/tokens",
    "/api/organizations",
}


@pytest.fixture(scope="module")
def document():
    GENERATOR_STATS.reset()
    return SchemaGenerator().get_schema(request=None, public=True)


def test_document_is_valid_and_without_warnings(document):
    validate_schema(document)

    assert not GENERATOR_STATS._warn_cache
    assert not GENERATOR_STATS._error_cache


def test_whole_public_surface_is_described(document):
    assert set(document["paths"]) >= PUBLIC_SURFACE


def test_every_operation_tells_of_errors_and_has_a_name(document):
    names = []
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["responses"]["default"]["content"]["application/json"]["schema"] == {
                "$ref": "#/components/schemas/Error"
            }
            names.append(operation["operationId"])

    assert len(names) == len(set(names))


def test_ways_to_sign_in_are_described(document):
    assert {"firebase", "cookie", "apiToken"} <= set(document["components"]["securitySchemes"])


def test_document_and_page_are_public(client: Client):
    assert client.get("/api/schema").status_code == 200
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert b"https://" not in page.content.replace(b"https://www.w3.org", b""), "no CDN"

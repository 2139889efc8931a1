"""The one error shape, also where no view is reached."""

import pytest
from django.test import Client

from tesslate import urls

pytestmark = pytest.mark.django_db


def code(response) -> str:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "code", "message", "param"}
    return str(body["error"]["code"])


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/nowhere", "/api/me/", "/webhooks/nowhere", "/usage/x"]
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_unknown_path_for_programs_is_json(client: Client, path, method):
    response = getattr(client, method)(path)

    assert response.status_code == 404
    assert code(response) == "not_found"


def test_unknown_path_for_programs_is_json_under_debug_too(client: Client, settings):
    settings.DEBUG = True

    assert code(client.get("/api/nowhere")) == "not_found"


def test_unknown_page_is_a_page(client: Client):
    response = client.get("/nowhere")

    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/html")


def test_wrong_method_is_405_in_the_one_shape(client: Client):
    response = client.delete("/api/me")

    assert response.status_code in {401, 405}
    assert code(response) in {"method_not_allowed", "not_authenticated"}


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_probes_that_post_are_405_in_the_one_shape(path):
    """And not a page about a CSRF token, which only a browser could have."""
    response = Client(enforce_csrf_checks=True).post(path)

    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")
    assert code(response) == "method_not_allowed"


def test_scraper_without_token_is_403_in_the_one_shape(client: Client, settings):
    settings.METRICS_TOKEN = "t" * 32

    response = client.get("/metrics")

    assert response.status_code == 403
    assert code(response) == "permission_denied"


def test_wrong_host_is_400_in_the_one_shape(client: Client):
    response = client.get("/api/me", headers={"Host": "evil.example.com"})

    assert response.status_code == 400
    assert code(response) == "invalid_request"


def test_fault_of_ours_is_500_in_the_one_shape(monkeypatch):
    from tesslate.me import MeView

    def break_down(*args: object, **kwargs: object) -> None:
        raise RuntimeError("sk-canary0123456789")

    monkeypatch.setattr(MeView, "get", break_down)
    monkeypatch.setattr(MeView, "authentication_classes", [])
    monkeypatch.setattr(MeView, "permission_classes", [])

    response = Client(raise_request_exception=False).get("/api/me")

    assert response.status_code == 500
    assert code(response) == "internal_error"
    assert b"canary" not in response.content


def test_every_route_is_without_trailing_slash():
    """APPEND_SLASH is off: the two would be different pages. The admin has its own ways."""

    def paths(patterns, prefix=""):
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if hasattr(pattern, "url_patterns"):
                if not route.startswith("admin"):
                    yield from paths(pattern.url_patterns, route)
            else:
                yield route

    assert [
        p for p in paths(urls.urlpatterns) if p.endswith("/") and not p.startswith("admin")
    ] == []

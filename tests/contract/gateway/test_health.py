"""Health and metrics: what may be polled, and what must not."""

import pytest

from tests.contract.gateway.conftest import Gateway

pytestmark = pytest.mark.contract


def test_liveness_and_readiness_need_no_key(gateway: Gateway) -> None:
    for path in ("/health/liveliness", "/health/liveness"):
        answer = gateway.http.get(path)
        assert (answer.status_code, answer.json()) == (200, "I'm alive!")
    answer = gateway.http.get("/health/readiness")
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy", "db": "connected"})


def test_health_itself_needs_a_key(gateway: Gateway) -> None:
    """And calls every provider: never poll it."""
    answer = gateway.http.get("/health")
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "auth_error"


def test_metrics_are_open_as_configured(gateway: Gateway) -> None:
    gateway.chat(gateway.key())
    answer = gateway.http.get("/metrics", follow_redirects=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "litellm_" in answer.text


def test_unknown_routes_and_methods(gateway: Gateway) -> None:
    assert gateway.get("/nope").status_code == 404
    assert gateway.get("/key/generate").status_code == 405
    assert gateway.post("/key/info").status_code == 405

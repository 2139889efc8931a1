"""Worker and beat can be watched: figures under the web's rule, and whether the main loop moves."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tesslate import exporter, heartbeat
from tesslate.lib.env import listen_problem


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = exporter.serve("127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def just_moved():
    heartbeat.note_movement()


def test_live_while_the_main_loop_moves(url):
    assert httpx.get(f"{url}/health/live").status_code == 200


def test_not_live_once_it_stands_still(url, monkeypatch):
    monkeypatch.setattr(heartbeat, "_moved_at", time.monotonic() - 61)

    assert httpx.get(f"{url}/health/live").status_code == 503


def test_figures_of_the_process_are_told(url):
    response = httpx.get(f"{url}/metrics")

    assert response.status_code == 200
    assert "tesslate_key_sync_lag_seconds_count" in response.text


def test_token_is_asked_for_where_one_is_set(url, settings):
    settings.METRICS_TOKEN = "a-token"

    assert httpx.get(f"{url}/metrics").status_code == 403
    for name in ("Authorization", "authorization"):
        headers = {name: "Bearer a-token"}
        assert httpx.get(f"{url}/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "forwarded"])
def test_who_comes_through_a_proxy_is_refused_however_it_writes_so(url, name):
    assert httpx.get(f"{url}/metrics", headers={name: "8.8.8.8"}).status_code == 403


def test_nothing_else_is_answered(url):
    assert httpx.get(f"{url}/admin/").status_code == 404
    assert httpx.post(f"{url}/metrics").status_code == 501


def test_port_that_is_taken_keeps_no_worker_from_working(url, settings, caplog):
    settings.METRICS_LISTEN = url.removeprefix("http://")

    exporter.start()

    assert "METRICS_LISTEN" in caplog.text


@pytest.mark.parametrize("value", ["9100", "0.0.0.0:", "0.0.0.0:0", "host:99999", ":9100"])
def test_address_that_cannot_be_listened_on_is_named(value):
    assert listen_problem(value)

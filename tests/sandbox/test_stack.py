"""What `make run` starts, and what it tells people and tools about it."""

import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from sandbox.datafolder import ROOT, DataFolder
from sandbox.screen import welcome
from sandbox.stack import (
    PORTS,
    BadOption,
    Options,
    Stack,
    check_ports_free,
    finds_well,
    log_folder,
)
from tests.sandbox.processes import free_row

DEMO: dict[str, Any] = {
    "staff": {"email": "staff@example.com", "password": "staff-password"},
    "users": [
        {"email": "free@example.com", "password": "free-password", "plan": "free"},
        {"email": "pro@example.com", "password": "pro-password", "plan": "pro"},
    ],
}


def options(**changes) -> Options:
    given: dict[str, Any] = {
        "port": 18000,
        "data_dir": ".local",
        "gateway": None,
        "gateway_master_key": None,
    }
    return Options(**given | changes)


@pytest.fixture
def folder(tmp_path):
    folder = DataFolder(str(tmp_path / "data"))
    folder.open()
    yield folder
    folder.close()


class TestOptions:
    @pytest.fixture(autouse=True)
    def _nothing_given(self, monkeypatch):
        for name in ("PORT", "DATA_DIR", "GATEWAY", "GATEWAY_MASTER_KEY"):
            monkeypatch.delenv(name, raising=False)

    def test_nothing_has_to_be_given(self):
        assert Options.from_environment() == options(port=8000)

    @pytest.mark.parametrize("port", ["abc", "0", "-1", "65533", "80.5", "99999", "٨٠٠٠x"])
    def test_a_nonsense_port_is_named(self, monkeypatch, port):
        monkeypatch.setenv("PORT", port)
        with pytest.raises(BadOption, match=r"^PORT: "):
            Options.from_environment()

    def test_a_gateway_is_an_address_with_its_key(self, monkeypatch):
        monkeypatch.setenv("GATEWAY", "litellm:4000")
        with pytest.raises(BadOption, match=r"^GATEWAY: .*not an http"):
            Options.from_environment()
        monkeypatch.setenv("GATEWAY", "http://127.0.0.1:4000/")
        with pytest.raises(BadOption, match=r"^GATEWAY_MASTER_KEY: "):
            Options.from_environment()
        monkeypatch.setenv("GATEWAY_MASTER_KEY", "sk-real")
        assert Options.from_environment().gateway == "http://127.0.0.1:4000"


@pytest.fixture
def port():
    return free_row()


class TestPorts:
    def test_a_busy_port_is_named_with_its_variable_and_a_way_out(self, port):
        with socket.create_server(("127.0.0.1", port + 1)):
            with pytest.raises(BadOption, match=rf"Port {port + 1} \(PORT\).*PORT={port + 101}"):
                check_ports_free(options(port=port + 1))
            with pytest.raises(BadOption, match=rf"Port {port + 1} \(PORT\+1, for litellm\)"):
                check_ports_free(options(port=port))

    def test_a_real_gateway_needs_no_port_of_ours(self, port):
        with socket.create_server(("127.0.0.1", port + PORTS.index("litellm"))):
            check_ports_free(options(port=port, gateway="http://elsewhere:4000"))


class Health(BaseHTTPRequestHandler):
    states: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        checks = {name: {"state": state} for name, state in self.states.items()}
        self.wfile.write(json.dumps({"checks": checks}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("states", "is_ready"),
    [
        ({"worker": "ok", "beat": "degraded"}, False),
        ({"worker": "degraded", "beat": "ok"}, False),
        ({"worker": "ok", "beat": "ok", "stripe": "down"}, True),
    ],
)
def test_what_is_up_has_been_heard_of(states, is_ready):
    handler = type("Handler", (Health,), {"states": states})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.handle_request).start()
        check = finds_well(f"http://127.0.0.1:{server.server_port}", "worker", "beat")

        assert check() is is_ready


def test_nobody_is_heard_of_before_the_web_answers(port):
    assert not finds_well(f"http://127.0.0.1:{port}", "beat")()


class TestStack:
    def test_settings_are_settings_that_exist(self, folder):
        stack = Stack(options(), folder)
        stack.postgres.folder.mkdir()
        stack.valkey.folder.mkdir()
        example = (ROOT / ".env.example").read_text()
        known = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", example, re.M))
        assert set(stack.settings()) - known == {"DATA_DIR"}

    def test_two_copies_share_neither_ports_nor_cookies_nor_secrets(self, folder, tmp_path):
        other_folder = DataFolder(str(tmp_path / "other"))
        other_folder.open()
        one, two = Stack(options(), folder), Stack(options(port=18100), other_folder)
        other_folder.close()
        assert not set(one.ports.values()) & set(two.ports.values())
        assert not set(one.secrets.values()) & set(two.secrets.values())
        for stack in (one, two):
            stack.postgres.folder.mkdir()
            stack.valkey.folder.mkdir()
        assert one.settings()["COOKIE_SUFFIX"] != two.settings()["COOKIE_SUFFIX"]

    def test_endpoints_are_what_tools_were_promised(self, folder):
        endpoints = Stack(options(), folder).endpoints(DEMO, {"web": 1})
        assert set(endpoints) == {
            "web",
            "gateway",
            "stripe_api",
            "firebase_api",
            "litellm_master_key",
            "stripe_secret_key",
            "stripe_webhook_secret",
            "firebase_api_key",
            "firebase_project_id",
            "staff",
            "users",
            "pids",
        }

    def test_with_a_real_gateway_there_is_no_stand_in_for_it(self, folder):
        gateway = options(gateway="http://elsewhere:4000", gateway_master_key="sk-real")
        stack = Stack(gateway, folder)
        assert [service.name for service in stack.stand_ins()] == ["stripe", "firebase"]
        assert stack.url("litellm") == "http://elsewhere:4000"
        assert stack.endpoints(DEMO, {})["litellm_master_key"] == "sk-real"


class TestScreen:
    def test_shows_where_everything_is_and_who_can_sign_in(self, folder):
        text = welcome(Stack(options(), folder), DEMO)
        assert "http://127.0.0.1:18000/admin/" in text
        for person in [*DEMO["users"], DEMO["staff"]]:
            assert re.search(rf"{person['email']} +{person['password']}", text)

    def test_commands_for_a_second_terminal_name_a_folder_that_is_not_the_usual(self, folder):
        assert "make demo\n" in welcome(Stack(options(), folder), DEMO)
        text = welcome(Stack(options(data_dir=".local2"), folder), DEMO)
        assert "make demo DATA_DIR=.local2" in text


def test_logs_of_the_run_before_are_kept_beside(folder):
    (folder.logs / "web.log").write_text("first run")
    assert not list(log_folder(folder).iterdir())
    assert (folder.path / "logs.previous" / "web.log").read_text() == "first run"
    (folder.logs / "web.log").write_text("second run")
    log_folder(folder)
    assert (folder.path / "logs.previous" / "web.log").read_text() == "second run"
